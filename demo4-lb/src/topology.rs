//! The desired state of this demo as data: backends, regions, and how to split calls.
//!
//! Knows nothing of xDS; [`render`] turns the state into xDS resources for each kind of client.

use std::net::SocketAddr;

pub mod render;

pub use render::{DataPlane, RenderError};

/// Envoy's listener, the route that it uses, and the service of `xds:///echo`.
pub const LISTENER: &str = "echo";

/// The cluster of all backends; the cluster of one region is called `echo-backends-REGION`.
pub const CLUSTER: &str = "echo-backends";

/// The region of a backend that names none.
pub const REGION: &str = "local";

/// The state that the control plane publishes, independent of xDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredState {
    /// Where Envoy listens. Port 0 lets it choose.
    pub listen: SocketAddr,
    /// The places, each with its backends.
    pub regions: Vec<Region>,
    /// Who splits the calls over the regions.
    pub split: Split,
    /// How often a call is tried again that its backend did not begin.
    pub retries: u32,
    /// How Envoy detects unhealthy backends.
    pub health_policy: HealthPolicy,
}

/// A place with backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name; also Envoy's `locality.region`.
    pub name: String,
    /// Its share of the calls, relative to the other regions of its priority. With 0 it gets none, and keeps its place.
    pub weight: u32,
    /// 0 is the highest; the next one gets calls when those before it are short of healthy backends.
    pub priority: u32,
    /// Its backends.
    pub backends: Vec<Endpoint>,
}

/// A backend as clients are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of its region's calls; 1 unless said.
    pub weight: u32,
    /// Whether it is known to serve. Envoy detects that itself with a [`HealthPolicy`].
    pub healthy: bool,
}

/// Who splits calls over regions, and by what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Split {
    /// The client, by the weights and priorities of the localities in one cluster's endpoints (EDS).
    #[default]
    Localities,
    /// The route, by the weights of one cluster for each region (RDS). Priorities say nothing here.
    Routes,
}

/// How Envoy detects unhealthy backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthPolicy {
    /// Not at all: it calls every backend of the control plane.
    #[default]
    None,
    /// By active health checks.
    HealthChecks,
    /// By the results of calls.
    OutlierDetection,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { address, weight: 1, healthy: true }
    }
}

impl Region {
    /// A region of the highest priority.
    pub fn new(name: &str, weight: u32, backends: impl IntoIterator<Item = SocketAddr>) -> Self {
        let backends = backends.into_iter().map(Endpoint::from).collect();
        Self { name: name.to_owned(), weight, priority: 0, backends }
    }

    /// The cluster of this region where each has its own.
    pub fn cluster(&self) -> String {
        format!("{CLUSTER}-{}", self.name)
    }
}

impl DesiredState {
    /// Creates a state with these regions.
    pub fn from_regions(listen: SocketAddr, regions: impl IntoIterator<Item = Region>) -> Self {
        Self {
            listen,
            regions: regions.into_iter().collect(),
            split: Split::default(),
            retries: 0,
            health_policy: HealthPolicy::default(),
        }
    }

    /// Creates a state with one region of these backends.
    pub fn new(listen: SocketAddr, backends: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self::from_regions(listen, [Region::new(REGION, 1, backends)])
    }

    /// Adds a backend to the first region.
    #[must_use]
    pub fn with_backend(mut self, backend: SocketAddr) -> Self {
        if let Some(region) = self.regions.first_mut() {
            region.backends.push(backend.into());
        }
        self
    }

    /// Removes a backend.
    #[must_use]
    pub fn without_backend(mut self, backend: SocketAddr) -> Self {
        for region in &mut self.regions {
            region.backends.retain(|endpoint| endpoint.address != backend);
        }
        self
    }

    /// Sets whether a backend is known to serve.
    #[must_use]
    pub fn with_health(mut self, backend: SocketAddr, healthy: bool) -> Self {
        let backends = self.regions.iter_mut().flat_map(|region| &mut region.backends);
        backends.filter(|endpoint| endpoint.address == backend).for_each(|found| found.healthy = healthy);
        self
    }

    /// Sets the weights of the regions, in their order.
    #[must_use]
    pub fn with_weights(mut self, weights: &[u32]) -> Self {
        for (region, weight) in self.regions.iter_mut().zip(weights) {
            region.weight = *weight;
        }
        self
    }
}
