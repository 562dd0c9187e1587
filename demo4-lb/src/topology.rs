//! The world of this demo as data: who there is, where, and what Envoy is told of it.

use std::net::SocketAddr;

use shared::xds::make::{self, LocalityEndpoints};
use shared::xds::resource::{Message, ResourceError};
use shared::xds::snapshot::SnapshotError;
use shared::xds::{Resource, Snapshot};

/// Envoy's listener and the route that it uses.
pub const LISTENER: &str = "echo";

/// The cluster of all backends.
pub const CLUSTER: &str = "echo-backends";

/// The backends' only region, in this demo as it is now.
pub const REGION: &str = "local";

/// What the control plane tells Envoy, in our own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// Where Envoy listens. Port 0 lets it choose.
    pub listen: SocketAddr,
    /// Where the backends are.
    pub backends: Vec<SocketAddr>,
    /// How often Envoy tries a call again that its backend did not begin.
    pub retries: u32,
}

/// The world makes no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A resource cannot be encoded.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The resources do not fit together.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl World {
    /// A world with these backends.
    pub fn new(listen: SocketAddr, backends: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { listen, backends: backends.into_iter().collect(), retries: 0 }
    }

    /// This world with one backend more.
    #[must_use]
    pub fn with(mut self, backend: SocketAddr) -> Self {
        self.backends.push(backend);
        self
    }

    /// This world with one backend less.
    #[must_use]
    pub fn without(mut self, backend: SocketAddr) -> Self {
        self.backends.retain(|address| *address != backend);
        self
    }

    /// The world as resources: a listener, its route, the cluster, and the cluster's endpoints.
    ///
    /// # Errors
    /// [`WorldError`]; the names above are ours and fit, so only a defect brings one.
    pub fn snapshot(&self) -> Result<Snapshot, WorldError> {
        let place = LocalityEndpoints {
            region: REGION.to_owned(),
            weight: 1,
            priority: 0,
            addresses: self.backends.clone(),
        };
        let mut route = make::route(LISTENER, CLUSTER);
        if self.retries > 0 {
            route = make::with_retries(route, self.retries);
        }
        Ok(Snapshot::new([
            resource(&make::cluster(CLUSTER))?,
            resource(&make::endpoints(CLUSTER, &[place]))?,
            resource(&make::listener(LISTENER, self.listen, LISTENER))?,
            resource(&route)?,
        ])?)
    }
}

fn resource<M: Message>(message: &M) -> Result<Resource, ResourceError> {
    Resource::new(message)
}
