//! The desired state of this demo as data: one listener, two apps, and how the traffic is split between them.

use std::net::SocketAddr;

use mesh_pki::{Issued, KeyPem};
use mesh_xds::builders::{self, LocalityEndpoints};
use mesh_xds::resource::{ResourceError, XdsMessage};
use mesh_xds::snapshot::SnapshotError;
use mesh_xds::{Resource, Snapshot};

/// Envoy's listener.
pub const LISTENER: &str = "edge";

/// The listener's route configuration.
pub const ROUTE: &str = "edge-routes";

/// The name under which the listener's certificate comes.
pub const SECRET: &str = "edge-certificate";

/// The host name in the certificate, and in the clients' TLS hello.
pub const HOST_NAME: &str = "edge.mesh.test";

/// The two apps, also the names of their clusters.
pub const APPS: [&str; 2] = ["blue", "green"];

/// The state that the control plane publishes to Envoy, independent of xDS.
#[derive(Clone, Debug)]
pub struct DesiredState {
    /// Where Envoy listens; `None` for no listener at all.
    pub listen: Option<SocketAddr>,
    /// The listener's certificate; without one it speaks plain HTTP.
    pub certificate: Option<Certificate>,
    /// Where each app of [`APPS`] is.
    pub apps: [SocketAddr; 2],
    /// Each app's share of the traffic, relative to the other's.
    pub weights: [u32; 2],
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The leaf, then the intermediate.
    pub chain_pem: String,
    /// The leaf's private key; its `Debug` shows nothing of it.
    pub key_pem: KeyPem,
}

impl From<Issued> for Certificate {
    fn from(issued: Issued) -> Self {
        Self { chain_pem: issued.chain_pem, key_pem: issued.key_pem }
    }
}

/// The state does not give a consistent snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotBuildError {
    /// A resource cannot be encoded.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The resources do not fit together.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl DesiredState {
    /// Renders the state as resources.
    ///
    /// # Errors
    /// [`SnapshotBuildError`]; the names are ours and fit, so only a defect brings one.
    pub fn snapshot(&self) -> Result<Snapshot, SnapshotBuildError> {
        Ok(Snapshot::new(self.resources()?)?)
    }

    /// Renders the state with a listener that Envoy rejects: its only filter does not exist.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub fn with_unknown_filter(&self) -> Result<Snapshot, SnapshotBuildError> {
        use builders::unknown_filter;
        let mut resources = self.resources()?;
        resources.retain(|resource| &**resource.name() != LISTENER);
        if let Some(address) = self.listen {
            resources.push(resource(&unknown_filter(builders::listener(LISTENER, address, ROUTE)))?);
        }
        Ok(Snapshot::new(resources)?)
    }

    fn resources(&self) -> Result<Vec<Resource>, SnapshotBuildError> {
        let Some(listen) = self.listen else { return Ok(Vec::new()) };
        let mut resources = Vec::new();
        for (app, address) in APPS.into_iter().zip(self.apps) {
            let locality = LocalityEndpoints {
                region: "local".to_owned(),
                weight: 1,
                priority: 0,
                addresses: vec![address],
            };
            resources.push(resource(&builders::cluster(app))?);
            resources.push(resource(&builders::endpoints(app, &[locality]))?);
        }
        let mut listener = builders::listener(LISTENER, listen, ROUTE);
        if let Some(certificate) = &self.certificate {
            listener = builders::with_tls(listener, SECRET);
            let Certificate { chain_pem, key_pem } = certificate;
            resources.push(resource(&builders::secret(SECRET, chain_pem, key_pem.expose()))?);
        }
        resources.push(resource(&listener)?);
        let weights: Vec<_> = APPS.into_iter().zip(self.weights).collect();
        resources.push(resource(&builders::weighted_route(ROUTE, &weights))?);
        Ok(resources)
    }
}

fn resource<M: XdsMessage>(message: &M) -> Result<Resource, ResourceError> {
    Resource::new(message)
}
