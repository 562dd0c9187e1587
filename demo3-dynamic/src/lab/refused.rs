//! Exercise 2: a snapshot that is whole, and that Envoy refuses; and one that it accepts, and that does not work.

use mesh_lab::CheckContext;
use mesh_lab_xds::XdsEnvoy;
use shared::stats::Shares;

use super::world::{accepted, app, snapshot, words};
use crate::client::Client;

/// Enough that a half is told from a third.
const REQUESTS: u64 = 400;

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let names = bench.rng.names(2);
    let (blue, green) = (app(&names[0], bench).await?, app(&names[1], bench).await?);
    let values = [("BLUE", blue.address().port().to_string()), ("GREEN", green.address().port().to_string())];
    let snapshot = snapshot(bench, &values)?;
    let told = XdsEnvoy::start(bench).await?;
    accepted(bench, &told, snapshot).await?;
    let client = Client::plain(told.listener().await?);
    let first = client.get("/").await;
    let well = first.as_ref().is_ok_and(|answer| answer.status.is_success());
    bench.require(
        "a request is answered",
        "an answer by one of the apps",
        format!("GET / got {}", words(&first)),
        well,
        "Envoy accepts a connection manager whose http_filters do not end with envoy.filters.http.router, and then \
         nobody takes the request on.",
    );
    if !well {
        return Ok(());
    }
    let mut shares = Shares::default();
    for _ in 0..REQUESTS {
        if let Ok(answer) = client.get("/").await {
            shares.count(&answer.body);
        }
    }
    for name in &names {
        let advice = "Equal weights, whatever they are, are equal parts.";
        bench.require_share(name, 0.5, (shares.of(name), REQUESTS), advice);
    }
    Ok(())
}
