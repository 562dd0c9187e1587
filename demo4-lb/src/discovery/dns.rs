//! All addresses of a host name, looked up again and again.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use shared::follow::{Change, Follower, PollTiming, Reading, Source};

use super::discovered::{DiscoveredEndpoint, POLL_INTERVAL};

/// An answer of a name server is complete, so a change needs no second look: a second one would only delay failover.
const PACE: PollTiming = PollTiming { every: POLL_INTERVAL, confirm: None };

/// A host name whose addresses are backends.
struct HostName {
    host: String,
    port: u16,
}

/// The name has no addresses.
#[derive(Debug, thiserror::Error)]
#[error("the name {host} was not found ({reason})")]
struct LookupError {
    host: String,
    reason: io::Error,
}

impl Source for HostName {
    type Content = Vec<SocketAddr>;
    type Value = Vec<DiscoveredEndpoint>;
    type Error = LookupError;

    fn read(&mut self) -> Result<Reading<Vec<SocketAddr>>, LookupError> {
        let failed = |reason| LookupError { host: self.host.clone(), reason };
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)?;
        let mut content: Vec<SocketAddr> = addresses.collect();
        if content.is_empty() {
            return Err(failed(io::Error::other("it has no addresses")));
        }
        content.sort_unstable();
        content.dedup();
        Ok(Reading { content, modified: Vec::new() })
    }

    fn parse(&mut self, addresses: &Vec<SocketAddr>) -> Result<Vec<DiscoveredEndpoint>, LookupError> {
        Ok(addresses.iter().copied().map(DiscoveredEndpoint::from).collect())
    }
}

/// Passes on the addresses of `host` now and whenever they change. A failed lookup changes nothing.
pub(super) async fn watch(host: String, port: u16, mut on_change: impl FnMut(Vec<DiscoveredEndpoint>)) {
    let report = |change| {
        if let Change::Value(backends) = change {
            on_change(backends);
        }
    };
    Follower::new(HostName { host, port }, PACE).follow("keeping what is known", report).await;
}
