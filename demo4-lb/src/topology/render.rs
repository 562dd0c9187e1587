//! The desired state as xDS resources for each kind of client.
//!
//! Envoy and the gRPC clients read the same protocol and heed different parts of it (the README has the
//! table of what was measured). A control plane that serves both tells them apart by what they say of
//! themselves, and says what it means in words that each one heeds.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::google::protobuf::UInt32Value;
use mesh_xds::builders::{self, LocalityEndpoints};
use mesh_xds::resource::{ResourceError, XdsMessage};
use mesh_xds::snapshot::SnapshotError;
use mesh_xds::{Resource, Snapshot};

use super::{CLUSTER, DesiredState, Endpoint, HealthPolicy, LISTENER, Region, Split};

/// How often Envoy asks a backend for its health: often, for a demo that shall not wait.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Consecutive failed calls after which outlier detection ejects a backend.
pub const CONSECUTIVE_FAILURES: u32 = 3;

/// How long an ejected backend stays ejected (Envoy's `base_ejection_time`).
pub const BASE_EJECTION_TIME: Duration = Duration::from_secs(2);

/// Who picks a backend for each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataPlane {
    /// An Envoy beside the client.
    Envoy,
    /// The client's own gRPC library, which speaks xDS itself.
    Proxyless,
}

/// The state does not give a consistent snapshot.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A resource cannot be encoded.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The resources do not fit together.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl DataPlane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Envoy, Self::Proxyless];

    /// What a client is, by the name that it gives itself: `gRPC Rust tonic-xds`, `gRPC C-core linux
    /// Python`, `envoy`.
    pub fn of(node: &Node) -> Self {
        if node.user_agent_name.starts_with("gRPC") { Self::Proxyless } else { Self::Envoy }
    }

    /// Its name in reports, and of its group in the control plane's cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Proxyless => "proxyless",
        }
    }
}

impl DesiredState {
    /// Renders the state as resources for one kind of client: a listener, its route, the clusters, their endpoints.
    ///
    /// # Errors
    /// [`RenderError`], for example if two regions have one name.
    pub fn snapshot(&self, client: DataPlane) -> Result<Snapshot, RenderError> {
        let mut resources = Vec::new();
        let mut add = |resource: Result<Resource, ResourceError>| resource.map(|one| resources.push(one));
        let regions = self.regions_for(client);
        // A route to no cluster at all is refused; to one without endpoints it is not.
        let split = if regions.is_empty() { Split::Localities } else { self.split };
        let mut route = match split {
            Split::Localities => {
                add(resource(&self.cluster(CLUSTER, client)))?;
                // No client accepts a locality that weighs nothing; it is left out.
                let weighted: Vec<_> = regions.iter().filter(|region| region.weight > 0).cloned().collect();
                add(resource(&endpoints(CLUSTER, &weighted)))?;
                builders::route(LISTENER, CLUSTER)
            }
            Split::Routes => {
                let mut weights = Vec::new();
                for region in &regions {
                    let name = region.cluster();
                    add(resource(&self.cluster(&name, client)))?;
                    // In a cluster of its own a region is of the first rank.
                    let alone = Region { weight: 1, priority: 0, ..region.clone() };
                    add(resource(&endpoints(&name, &[alone])))?;
                    weights.push((name, region.weight));
                }
                // Envoy refuses a route whose parts are all zero. Where nobody is, nobody answers anyway.
                if weights.iter().all(|(_, weight)| *weight == 0) {
                    weights.iter_mut().for_each(|(_, weight)| *weight = 1);
                }
                let weights: Vec<_> = weights.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
                builders::weighted_route(LISTENER, &weights)
            }
        };
        if self.retries > 0 {
            route = builders::with_retries(route, self.retries);
        }
        add(resource(&route))?;
        add(resource(&match client {
            DataPlane::Envoy => builders::listener(LISTENER, self.listen, LISTENER),
            DataPlane::Proxyless => builders::api_listener(LISTENER, LISTENER),
        }))?;
        Ok(Snapshot::new(resources)?)
    }

    fn cluster(&self, name: &str, client: DataPlane) -> envoy_types::pb::envoy::config::cluster::v3::Cluster {
        let cluster = builders::cluster(name);
        match (client, self.health_policy) {
            (DataPlane::Proxyless, _) => cluster,
            (DataPlane::Envoy, HealthPolicy::None) => builders::with_locality_weights(cluster),
            // Spilling over to the next priority is reckoned by endpoints; so the weights stay out of it.
            (DataPlane::Envoy, HealthPolicy::HealthChecks) => {
                builders::with_health_checks(cluster, HEALTH_CHECK_INTERVAL)
            }
            (DataPlane::Envoy, HealthPolicy::OutlierDetection) => {
                builders::with_outlier_detection(cluster, CONSECUTIVE_FAILURES, BASE_EJECTION_TIME)
            }
        }
    }

    /// Returns the regions for this kind of client.
    ///
    /// Envoy judges health and priorities itself. A proxyless client is told only whom it shall call now:
    /// the healthy backends of the highest priority that has any.
    fn regions_for(&self, client: DataPlane) -> Vec<Region> {
        if client == DataPlane::Envoy {
            return self.regions.clone();
        }
        let healthy = |region: &Region| Region {
            backends: region.backends.iter().filter(|endpoint| endpoint.healthy).copied().collect(),
            ..region.clone()
        };
        let mut serving: Vec<Region> = self.regions.iter().map(healthy).collect();
        if self.split == Split::Routes {
            // A route gives a cluster its part, whether or not anybody is there.
            serving.iter_mut().filter(|one| one.backends.is_empty()).for_each(|one| one.weight = 0);
            return serving;
        }
        let filled = serving.iter().filter(|region| !region.backends.is_empty());
        let active = filled.map(|region| region.priority).min();
        let chosen = serving.iter().filter(|region| Some(region.priority) == active);
        chosen.map(|region| Region { priority: 0, ..region.clone() }).collect()
    }
}

/// The endpoints of a cluster, with weights of their own where they are not all equal.
fn endpoints(cluster: &str, regions: &[Region]) -> ClusterLoadAssignment {
    let addresses =
        |backends: &[Endpoint]| backends.iter().map(|one| one.address).collect::<Vec<SocketAddr>>();
    let localities: Vec<LocalityEndpoints> = regions
        .iter()
        .map(|region| LocalityEndpoints {
            region: region.name.clone(),
            weight: region.weight,
            priority: region.priority,
            addresses: addresses(&region.backends),
        })
        .collect();
    let mut assignment = builders::endpoints(cluster, &localities);
    for (locality, region) in assignment.endpoints.iter_mut().zip(regions) {
        for (endpoint, backend) in locality.lb_endpoints.iter_mut().zip(&region.backends) {
            endpoint.load_balancing_weight =
                (backend.weight != 1).then_some(UInt32Value { value: backend.weight });
        }
    }
    assignment
}

fn resource<M: XdsMessage>(message: &M) -> Result<Resource, ResourceError> {
    Resource::new(message)
}
