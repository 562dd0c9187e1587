//! Exercise 1: a route, its cluster and its endpoints, added by xDS.

use mesh_lab::CheckContext;
use mesh_lab_xds::XdsEnvoy;

use super::world::{accepted, app, snapshot, words};
use crate::app::App;
use crate::client::Client;

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let names = bench.rng.names(2);
    let (blue, green) = (app(&names[0], bench).await?, app(&names[1], bench).await?);
    let values = [("BLUE", blue.address().port().to_string()), ("GREEN", green.address().port().to_string())];
    let snapshot = snapshot(bench, &values)?;
    let told = XdsEnvoy::start(bench).await?;
    accepted(bench, &told, snapshot).await?;
    let client = Client::plain(told.listener().await?);
    let late = bench.rng.number(1..=9);
    let below = format!("/green/slow?ms={late}");
    let beside = format!("/slow?ms={late}");
    for (path, to, name) in [
        ("/", "blue", &names[0]),
        ("/green/", "green", &names[1]),
        (&below, "green", &names[1]),
        (&beside, "blue", &names[0]),
    ] {
        let before = sent(&told, [&blue, &green]).await?;
        let answer = client.get(path).await;
        let asked = asked(before, sent(&told, [&blue, &green]).await?);
        bench.require(
            format!("GET {path} goes to {to}"),
            format!("an answer by {name}, which is {to}"),
            format!("GET {path} got {}", words(&answer)),
            answer.is_ok_and(|answer| answer.status.is_success() && answer.body == *name),
            match (to, asked) {
                ("green", "blue") => {
                    "It was sent to blue. Envoy takes the first route that matches, in their order, and / matches \
                     everything: is there one for /green/, and does it come before?"
                }
                ("green", "green") => {
                    "It was sent to green, which knows `/` and `/slow` and nothing below /green/: the route has to \
                     take the prefix away (prefix_rewrite), and // is not /."
                }
                _ => "What was right stays right: everything else goes to blue, as it is.",
            },
        );
    }
    let before = sent(&told, [&blue, &green]).await?;
    _ = client.get("/greenery").await;
    let asked = asked(before, sent(&told, [&blue, &green]).await?);
    bench.require(
        "GET /greenery goes to blue",
        "blue, which will not know it either",
        format!("GET /greenery was sent to {asked}"),
        asked == "blue",
        "A prefix is compared letter by letter: end it with a slash.",
    );
    Ok(())
}

/// How many requests Envoy has sent to each app, by its own account, whatever their clusters are called.
async fn sent(told: &XdsEnvoy, apps: [&App; 2]) -> anyhow::Result<[u64; 2]> {
    let clusters = told.envoy.admin().clusters().await?;
    let hosts = || clusters.iter().flat_map(|cluster| &cluster.hosts);
    let of = |app: &App| {
        let here = hosts().filter(|host| host.address == app.address());
        here.filter_map(|host| host.stats.get("rq_total")).sum()
    };
    Ok(apps.map(of))
}

fn asked(before: [u64; 2], after: [u64; 2]) -> &'static str {
    match (after[0] > before[0], after[1] > before[1]) {
        (_, true) => "green",
        (true, false) => "blue",
        (false, false) => "nobody",
    }
}
