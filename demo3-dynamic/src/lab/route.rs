//! Exercise 1: a route, its cluster and its endpoints, added by xDS.

use mesh_lab::CheckContext;
use mesh_lab_xds::XdsEnvoy;

use super::environment::{describe, require_accepted, snapshot, start_app};
use crate::app::App;
use crate::client::Client;

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let names = context.rng.names(2);
    let (blue, green) = (start_app(&names[0], context).await?, start_app(&names[1], context).await?);
    let values = [("BLUE", blue.address().port().to_string()), ("GREEN", green.address().port().to_string())];
    let snapshot = snapshot(context, &values)?;
    let xds_envoy = XdsEnvoy::start(context).await?;
    require_accepted(context, &xds_envoy, snapshot).await?;
    let client = Client::plain(xds_envoy.listener().await?);
    let delay_ms = context.rng.number(1..=9);
    let rewritten_path = format!("/green/slow?ms={delay_ms}");
    let plain_path = format!("/slow?ms={delay_ms}");
    for (path, to, name) in [
        ("/", "blue", &names[0]),
        ("/green/", "green", &names[1]),
        (&rewritten_path, "green", &names[1]),
        (&plain_path, "blue", &names[0]),
    ] {
        let before = request_counts(&xds_envoy, [&blue, &green]).await?;
        let answer = client.get(path).await;
        let reached_app = reached_app(before, request_counts(&xds_envoy, [&blue, &green]).await?);
        context.require(
            format!("GET {path} goes to {to}"),
            format!("an answer by {name}, which is {to}"),
            format!("GET {path} got {}", describe(&answer)),
            answer.is_ok_and(|answer| answer.status.is_success() && answer.body == *name),
            match (to, reached_app) {
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
    let before = request_counts(&xds_envoy, [&blue, &green]).await?;
    _ = client.get("/greenery").await;
    let reached_app = reached_app(before, request_counts(&xds_envoy, [&blue, &green]).await?);
    context.require(
        "GET /greenery goes to blue",
        "blue, which will not know it either",
        format!("GET /greenery was sent to {reached_app}"),
        reached_app == "blue",
        "A prefix is compared letter by letter: end it with a slash.",
    );
    Ok(())
}

/// How many requests Envoy has sent to each app, by its own account, whatever their clusters are called.
async fn request_counts(xds_envoy: &XdsEnvoy, apps: [&App; 2]) -> anyhow::Result<[u64; 2]> {
    let clusters = xds_envoy.envoy.admin().clusters().await?;
    let hosts = || clusters.iter().flat_map(|cluster| &cluster.hosts);
    let of = |app: &App| {
        let here = hosts().filter(|host| host.address == app.address());
        here.filter_map(|host| host.stats.get("rq_total")).sum()
    };
    Ok(apps.map(of))
}

fn reached_app(before: [u64; 2], after: [u64; 2]) -> &'static str {
    match (after[0] > before[0], after[1] > before[1]) {
        (_, true) => "green",
        (true, false) => "blue",
        (false, false) => "nobody",
    }
}
