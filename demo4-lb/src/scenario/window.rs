//! What the clients of two Envoys saw between two moments.

use std::time::Instant;

use shared::stats::Shares;

use super::claims::by_region;
use crate::caller::{Call, Load, Tally};

/// What clients saw between two moments.
pub(super) struct Window {
    pub(super) tally: Tally,
    pub(super) seconds: f64,
    /// Calls that were answered, by Envoy.
    pub(super) n: [u64; 2],
    /// The calls per second to east through each Envoy, by the shares that its client measured.
    pub(super) east_rate: [f64; 2],
}

impl Window {
    /// Calls a second to a region, of both together.
    pub(super) fn rate(&self, region: &str) -> f64 {
        self.tally.shares.of(region) as f64 / self.seconds
    }
}

/// Looks at two loads of `rate` calls a second each; what did not both begin and end in the time is left out.
pub(super) fn window(loads: &[Load; 2], rate: u32, from: Instant, to: Instant) -> Window {
    let within = |load: &Load| -> Vec<Call> {
        load.completed_calls().into_iter().filter(|call| call.started >= from && call.ended() < to).collect()
    };
    let seconds = (to - from).as_secs_f64();
    let calls = loads.each_ref().map(within);
    let shares = calls.each_ref().map(|calls| {
        by_region(&calls.iter().filter_map(|call| call.result.as_deref().ok()).collect::<Shares>())
    });
    let n = shares.each_ref().map(Shares::total);
    let east_rate = shares
        .each_ref()
        .map(|shares| f64::from(rate) * shares.of("east") as f64 / shares.total().max(1) as f64);
    let mut tally: Tally = calls.iter().flatten().collect();
    tally.shares = by_region(&tally.shares);
    Window { tally, seconds, n, east_rate }
}
