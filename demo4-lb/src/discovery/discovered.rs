//! The endpoint type that every source returns.

use std::net::SocketAddr;
use std::time::Duration;

use crate::topology::{Endpoint, REGION};

/// The interval between two reads of a name or a file. Docker's own DNS follows its containers at once.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The maximum weight of a backend. Envoy rejects a whole route if the weights of its regions add up to more than 32 bits
/// hold. This limit leaves room for 400,000 backends.
pub const MAX_WEIGHT: u32 = 10_000;

/// A backend and its region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiscoveredEndpoint {
    /// Its region.
    pub region: String,
    /// The backend.
    pub endpoint: Endpoint,
}

impl From<SocketAddr> for DiscoveredEndpoint {
    fn from(address: SocketAddr) -> Self {
        Self { region: REGION.to_owned(), endpoint: address.into() }
    }
}
