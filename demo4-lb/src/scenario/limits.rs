//! How long the scenario waits and how much it calls.

use std::time::Duration;

/// How long one wait may take. Much longer than needed, so that a slow machine does not fail a claim.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// The calls of one measurement. With three backends, a backend that gets half or one and a half times its share then goes
/// unnoticed in one of 1,900 runs. With 300 calls it would be one run of five (`shared/tests/stats.rs` computes both).
pub(super) const CALLS: usize = 600;

/// The steady load during changes, in calls per second.
pub(super) const RATE: u32 = 200;
