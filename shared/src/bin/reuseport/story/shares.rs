//! How fresh connections are shared between servers.

use std::net::SocketAddr;

use shared::report::Recorder;
use shared::reuseport::{BALANCES_CONNECTIONS, request_instance};
use shared::stats::Shares;

/// The number of fresh connections, as in the experiment that this one repeats.
pub(super) const REQUESTS: u64 = 300;

/// Why shares are not checked on this system.
const ALL_TO_ONE: &str =
    "this system gives all connections of a shared port to one process: macOS to the last one that came";

/// Sends [`REQUESTS`] requests, each on a fresh connection, and counts who answers.
pub(super) async fn shares(address: SocketAddr) -> anyhow::Result<Shares> {
    let mut shares = Shares::default();
    for _ in 0..REQUESTS {
        shares.count(&request_instance(address).await?);
    }
    Ok(shares)
}

/// Claims that these servers share evenly, on systems that spread connections.
pub(super) fn claim_even(story: &mut Recorder, id: &str, claim: &str, names: &[&str], shares: &Shares) {
    let fit = shares.fit_evenly(names.iter().copied());
    let expected = format!("1/{} each, chi² up to {:.2}", names.len(), fit.bound);
    if BALANCES_CONNECTIONS {
        story.claim(id, claim, expected, format!("{shares}; chi² {:.2}", fit.statistic), fit.holds());
    } else {
        story.not_checked(id, claim, expected, format!("{ALL_TO_ONE}; seen: {shares}"));
    }
}
