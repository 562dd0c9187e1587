//! Which backends serve: the control plane's own eyes, for clients that have none.
//!
//! Knows how to ask (`grpc.health.v1`). Does not know what is done with the answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;

/// Checks these backends at each `interval`, without end, and calls `on_change` with all results when one has changed.
///
/// A backend that does not answer within the two seconds of [`shared::health::probe`] does not serve.
pub async fn watch(
    backends: Vec<SocketAddr>,
    interval: Duration,
    mut on_change: impl FnMut(&BTreeMap<SocketAddr, bool>),
) {
    let mut previous = BTreeMap::new();
    let mut ticks = tokio::time::interval(interval);
    // After a slow round there is nothing to make up for.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let checks =
            backends.iter().map(async |address| (*address, shared::health::probe(*address).await.is_ok()));
        let current: BTreeMap<SocketAddr, bool> = join_all(checks).await.into_iter().collect();
        if current != previous {
            on_change(&current);
            previous = current;
        }
    }
}
