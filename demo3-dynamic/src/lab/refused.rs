//! Exercise 2: a snapshot that is whole, and that Envoy refuses; and one that it accepts, and that does not work.

use mesh_lab::CheckContext;
use mesh_lab_xds::XdsEnvoy;
use shared::stats::Shares;

use super::environment::{describe, require_accepted, snapshot, start_app};
use crate::client::Client;

/// Enough that a half is told from a third.
const REQUESTS: u64 = 400;

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let names = context.rng.names(2);
    let (blue, green) = (start_app(&names[0], context).await?, start_app(&names[1], context).await?);
    let values = [("BLUE", blue.address().port().to_string()), ("GREEN", green.address().port().to_string())];
    let snapshot = snapshot(context, &values)?;
    let xds_envoy = XdsEnvoy::start(context).await?;
    require_accepted(context, &xds_envoy, snapshot).await?;
    let client = Client::plain(xds_envoy.listener().await?);
    let first = client.get("/").await;
    let answered = first.as_ref().is_ok_and(|answer| answer.status.is_success());
    context.require(
        "a request is answered",
        "an answer by one of the apps",
        format!("GET / got {}", describe(&first)),
        answered,
        "Envoy accepts a connection manager whose http_filters do not end with envoy.filters.http.router, and then \
         nobody takes the request on.",
    );
    if !answered {
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
        context.require_share(name, 0.5, (shares.of(name), REQUESTS), advice);
    }
    Ok(())
}
