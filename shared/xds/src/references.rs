//! References between resources: the names that a resource mentions and that must exist for it to work.
//!
//! Only names that a client fetches from *this* control plane count. A cluster whose endpoints come from DNS, or a
//! listener whose routes come from a file, has no references.
//!
//! The search does not cover all of Envoy's API; the crate's README lists what is left out. A reference that
//! it does not find is neither checked nor waited for.

mod reference;

mod routes;

mod filters;

mod transport_sockets;

use envoy_types::pb::envoy::config::{
    cluster::v3::{Cluster, cluster::ClusterDiscoveryType, cluster::DiscoveryType},
    endpoint::v3::ClusterLoadAssignment,
    listener::v3::{Filter, Listener, filter as network_filter},
};
use envoy_types::pb::envoy::extensions::{
    clusters::aggregate::v3::ClusterConfig as Aggregate, transport_sockets::tls::v3::Secret,
};
use envoy_types::pb::google::protobuf::Any;

use filters::network;
pub use reference::{Reference, References};
use reference::{is_ours, to, unpack};
use transport_sockets::secrets;

use crate::resource_type::ResourceType;

impl References for ClusterLoadAssignment {
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }
}

impl References for Secret {
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }
}

impl References for Cluster {
    fn references(&self) -> Vec<Reference> {
        let by_eds =
            self.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
        let mut found = Vec::new();
        if let Some(eds) = self.eds_cluster_config.as_ref().filter(|_| by_eds)
            && is_ours(eds.eds_config.as_ref())
        {
            let name = if eds.service_name.is_empty() { &self.name } else { &eds.service_name };
            found.push(to(ResourceType::Endpoints, name));
        }
        if let Some(ClusterDiscoveryType::ClusterType(own)) = &self.cluster_discovery_type {
            let aggregate = own.typed_config.as_ref().and_then(unpack::<Aggregate>);
            let parts = aggregate.map(|aggregate| aggregate.clusters).unwrap_or_default();
            found.extend(parts.iter().map(|part| to(ResourceType::Cluster, part)));
        }
        found.extend(self.transport_socket.iter().flat_map(secrets));
        found.extend(
            self.transport_socket_matches
                .iter()
                .filter_map(|matching| matching.transport_socket.as_ref())
                .flat_map(secrets),
        );
        found
    }
}

impl References for Listener {
    fn references(&self) -> Vec<Reference> {
        let chains = self.filter_chains.iter().chain(&self.default_filter_chain);
        let mut found = Vec::new();
        for chain in chains {
            found.extend(chain.transport_socket.iter().flat_map(secrets));
            found.extend(chain.filters.iter().filter_map(config_of).flat_map(network));
        }
        let api = self.api_listener.as_ref().and_then(|api| api.api_listener.as_ref());
        found.extend(api.into_iter().flat_map(network));
        found
    }
}

fn config_of(filter: &Filter) -> Option<&Any> {
    match &filter.config_type {
        Some(network_filter::ConfigType::TypedConfig(config)) => Some(config),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::cluster::v3::cluster::CustomClusterType;
    use envoy_types::util::pack_any;

    use super::*;

    #[test]
    fn an_aggregate_cluster_refers_to_its_parts() {
        let parts = Aggregate { clusters: vec!["near".to_owned(), "far".to_owned()] };
        let own = CustomClusterType {
            name: "envoy.clusters.aggregate".to_owned(),
            typed_config: Some(pack_any(parts)),
        };
        let cluster = Cluster {
            name: "both".to_owned(),
            cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(own)),
            ..Cluster::default()
        };
        assert_eq!(cluster.references(), ["near", "far"].map(|name| to(ResourceType::Cluster, name)));
    }
}
