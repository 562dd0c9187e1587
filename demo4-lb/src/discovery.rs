//! Where the backends are: told once, read from a file, looked up by name, or heard from the container engine.
//!
//! Knows how to find addresses. Does not know what is done with them.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use shared::cli::SetupError;

use crate::topology::{Endpoint, Region};

mod discovered;

mod dns;

mod file;

pub mod docker;

pub use discovered::{DiscoveredEndpoint, MAX_WEIGHT};

/// A source of backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointSource {
    /// These, for good.
    Static(Vec<SocketAddr>),
    /// Every address that a name has, followed as it changes.
    Dns {
        /// The name, such as a compose service.
        host: String,
        /// The port of each backend.
        port: u16,
    },
    /// A YAML file, followed as it changes.
    File(PathBuf),
    /// The containers that carry the label `mesh.service=NAME`, followed as they start and stop.
    Docker {
        /// The service's name.
        service: String,
    },
}

/// The text is not a valid source of endpoints.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' names no endpoints{why}: write static:IP:PORT,IP:PORT or dns:NAME:PORT or file:PATH or docker[:SERVICE]"
)]
pub struct EndpointSourceError {
    text: String,
    why: &'static str,
}

impl FromStr for EndpointSource {
    type Err = EndpointSourceError;

    fn from_str(text: &str) -> Result<Self, EndpointSourceError> {
        let error = |why| EndpointSourceError { text: text.to_owned(), why };
        let malformed = || error("");
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "static" => {
                let addresses =
                    rest.split(',').map(|address| address.trim().parse().map_err(|_| malformed()));
                let addresses = addresses.collect::<Result<Vec<SocketAddr>, _>>()?;
                if addresses.iter().any(|address| address.port() == 0) {
                    return Err(error(" (nobody listens on port 0)"));
                }
                // gRPC's C core refuses the whole list.
                if addresses.iter().collect::<HashSet<_>>().len() < addresses.len() {
                    return Err(error(" (an address stands there twice)"));
                }
                Ok(Self::Static(addresses))
            }
            "dns" => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(malformed)?;
                let port = port.parse().map_err(|_| malformed())?;
                if host.is_empty() || port == 0 {
                    return Err(malformed());
                }
                Ok(Self::Dns { host: host.to_owned(), port })
            }
            "file" if !rest.is_empty() => Ok(Self::File(rest.into())),
            "docker" => {
                let service = if rest.is_empty() { crate::topology::LISTENER } else { rest };
                Ok(Self::Docker { service: service.to_owned() })
            }
            _ => Err(malformed()),
        }
    }
}

impl EndpointSource {
    /// Calls `on_change` with all backends now and whenever they change, sorted; for a static source once, as they
    /// were given.
    ///
    /// A look that fails changes nothing: it is no proof that every backend is gone, and endpoints that do
    /// answer are worth more than an empty list.
    ///
    /// # Errors
    /// [`SetupError`] if the source is not there or not readable at the start.
    pub async fn watch(self, mut on_change: impl FnMut(Vec<DiscoveredEndpoint>)) -> Result<(), SetupError> {
        match self {
            Self::Static(addresses) => {
                on_change(addresses.into_iter().map(DiscoveredEndpoint::from).collect());
                std::future::pending().await
            }
            Self::Dns { host, port } => {
                dns::watch(host, port, on_change).await;
                Ok(())
            }
            Self::File(path) => file::watch(path, on_change).await.map_err(SetupError::new),
            Self::Docker { service } => docker::watch(&service, on_change).await.map_err(SetupError::new),
        }
    }
}

/// All regions that ever had a backend.
///
/// A region that lost its last backend stays, empty and without weight: tonic-xds never forgets the endpoints of a
/// cluster that leaves the routes, and calls the old ones if it comes back (`tests/proxyless.rs`).
#[derive(Clone, Debug, Default)]
pub struct KnownRegions(BTreeSet<String>);

impl KnownRegions {
    /// The backends by region, in the order of the regions' names, together with the regions of earlier calls. A
    /// region weighs what its backends weigh together.
    pub fn update(&mut self, discovered: &[DiscoveredEndpoint]) -> Vec<Region> {
        self.0.extend(discovered.iter().map(|one| one.region.clone()));
        let region = |name: &String| {
            let mut backends: Vec<Endpoint> =
                discovered.iter().filter(|one| one.region == *name).map(|one| one.endpoint).collect();
            backends.sort_unstable();
            let weight = backends.iter().fold(0, |sum: u32, one| sum.saturating_add(one.weight));
            Region { name: name.clone(), weight, priority: 0, backends }
        };
        self.0.iter().map(region).collect()
    }
}
