//! A load that the scenario has sent, and what later steps need to know about it.

use std::time::{Duration, SystemTime};

use crate::load::Outcome;

/// The requests per second of each step.
pub(super) const RATE: u32 = 50;

/// How long each load lasts: longer than the window of the queries, so that they cover nothing else.
pub(super) const DURATION: Duration = Duration::from_secs(6);

/// A load that was sent, answered and scraped.
#[derive(Debug)]
pub(super) struct Load {
    /// What the last attempt returned.
    pub(super) outcome: Outcome,
    /// The requests of all attempts, as a number that compares with counters.
    pub(super) sent: f64,
    /// How many of them failed.
    pub(super) failed: u64,
    /// When its last request was due. A window that ends here contains only the load.
    pub(super) until: SystemTime,
    /// Why durations and rates say more about the machine than about the mesh, if they do.
    pub(super) unreliable: Option<String>,
}
