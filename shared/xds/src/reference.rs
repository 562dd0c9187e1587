//! Who needs whom: the names that a resource mentions and that must exist for it to work.
//!
//! Only what a client would ask *this* control plane for counts: a cluster whose endpoints come
//! from DNS, or a listener whose routes come from a file, needs nothing of us.
//!
//! Not all of Envoy's API is looked through; the crate's README lists what is left out. What is not seen here is not
//! checked, and not waited for.

use std::sync::Arc;

use envoy_types::pb::envoy::config::{
    cluster::v3::{Cluster, cluster::ClusterDiscoveryType, cluster::DiscoveryType},
    core::v3::{ConfigSource, config_source::ConfigSourceSpecifier},
    endpoint::v3::ClusterLoadAssignment,
    listener::v3::{Filter, Listener, filter as network_filter},
    route::v3::{RouteAction, RouteConfiguration, route::Action, route_action::ClusterSpecifier},
};
use envoy_types::pb::envoy::extensions::{
    clusters::aggregate::v3::ClusterConfig as Aggregate, transport_sockets::tls::v3::Secret,
};
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use super::resource::ResourceType;

mod filter;

mod socket;

use filter::network;
use socket::secrets;

/// A name that must exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The type of what is referred to.
    pub kind: ResourceType,
    /// Its name.
    pub name: Arc<str>,
}

/// A message that refers to resources.
pub trait Refers {
    /// All references, in the order in which they stand.
    fn refers(&self) -> Vec<Reference>;
}

fn to(kind: ResourceType, name: &str) -> Reference {
    Reference { kind, name: name.into() }
}

/// Whether a client would ask this control plane: by ADS, or by the server that sent the reference.
fn is_ours(source: Option<&ConfigSource>) -> bool {
    matches!(
        source.and_then(|source| source.config_source_specifier.as_ref()),
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_))
    )
}

/// Decodes a packed message if it is an `M`. One that does not decode refers to nothing that we could
/// name; the client will refuse it and say why.
fn unpack<M: Message + Name + Default>(any: &Any) -> Option<M> {
    if any.type_url != M::type_url() {
        return None;
    }
    M::decode(any.value.as_slice()).ok()
}

impl Refers for ClusterLoadAssignment {
    fn refers(&self) -> Vec<Reference> {
        Vec::new()
    }
}

impl Refers for Secret {
    fn refers(&self) -> Vec<Reference> {
        Vec::new()
    }
}

impl Refers for Cluster {
    fn refers(&self) -> Vec<Reference> {
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

impl Refers for RouteConfiguration {
    fn refers(&self) -> Vec<Reference> {
        let routes = self.virtual_hosts.iter().flat_map(|host| &host.routes);
        let actions = routes.filter_map(|route| match &route.action {
            Some(Action::Route(action)) => Some(action),
            _ => None,
        });
        actions.flat_map(clusters).collect()
    }
}

impl Refers for Listener {
    fn refers(&self) -> Vec<Reference> {
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

/// The clusters that a route action names. One chosen by a header or a plugin has no name yet.
fn clusters(action: &RouteAction) -> Vec<Reference> {
    let mut names: Vec<&str> = match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![name],
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted.clusters.iter().map(|one| one.name.as_str()).filter(|name| !name.is_empty()).collect()
        }
        _ => Vec::new(),
    };
    names.extend(action.request_mirror_policies.iter().map(|mirror| mirror.cluster.as_str()));
    names.into_iter().filter(|name| !name.is_empty()).map(|name| to(ResourceType::Cluster, name)).collect()
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::cluster::v3::cluster::CustomClusterType;
    use envoy_types::util::pack_any;

    use super::*;

    #[test]
    fn an_aggregate_needs_the_clusters_that_it_is_made_of() {
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
        assert_eq!(cluster.refers(), ["near", "far"].map(|name| to(ResourceType::Cluster, name)));
    }
}
