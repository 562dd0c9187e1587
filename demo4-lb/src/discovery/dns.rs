//! All addresses of a host name, looked up again and again.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use shared::follow::{Change, Follower, PollTiming, Reading, Source};

use super::found::{Found, LOOK_EVERY};

/// An answer of a name server is complete, so a change needs no second look: a second one would only delay failover.
const PACE: PollTiming = PollTiming { every: LOOK_EVERY, confirm: None };

/// A host name whose addresses are backends.
struct Name {
    host: String,
    port: u16,
}

/// The name has no addresses.
#[derive(Debug, thiserror::Error)]
#[error("the name {host} was not found ({why})")]
struct NotFound {
    host: String,
    why: io::Error,
}

impl Source for Name {
    type Content = Vec<SocketAddr>;
    type Value = Vec<Found>;
    type Error = NotFound;

    fn read(&mut self) -> Result<Reading<Vec<SocketAddr>>, NotFound> {
        let not_found = |why| NotFound { host: self.host.clone(), why };
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(not_found)?;
        let mut content: Vec<SocketAddr> = addresses.collect();
        if content.is_empty() {
            return Err(not_found(io::Error::other("it has no addresses")));
        }
        content.sort_unstable();
        content.dedup();
        Ok(Reading { content, modified: Vec::new() })
    }

    fn parse(&mut self, addresses: &Vec<SocketAddr>) -> Result<Vec<Found>, NotFound> {
        Ok(addresses.iter().copied().map(Found::from).collect())
    }
}

/// Passes on the addresses of `host` now and whenever they change. A failed lookup changes nothing.
pub(super) async fn follow(host: String, port: u16, mut found: impl FnMut(Vec<Found>)) {
    let report = |change| {
        if let Change::Value(backends) = change {
            found(backends);
        }
    };
    Follower::new(Name { host, port }, PACE).follow("keeping what is known", report).await;
}
