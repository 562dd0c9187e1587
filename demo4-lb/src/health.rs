//! Which backends serve: the control plane's own eyes, for clients that have none.
//!
//! Knows how to ask (`grpc.health.v1`). Does not know what is done with the answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;

/// Asks these backends `every` so often, for ever, and calls `found` with all answers when one has changed.
///
/// A backend that does not answer within the two seconds of [`shared::health::probe`] does not serve.
pub async fn follow(
    backends: Vec<SocketAddr>,
    every: Duration,
    mut found: impl FnMut(&BTreeMap<SocketAddr, bool>),
) {
    let mut known = BTreeMap::new();
    let mut ticks = tokio::time::interval(every);
    // After a slow round there is nothing to make up for.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = backends.iter().map(async |at| (*at, shared::health::probe(*at).await.is_ok()));
        let now: BTreeMap<SocketAddr, bool> = join_all(asked).await.into_iter().collect();
        if now != known {
            found(&now);
            known = now;
        }
    }
}
