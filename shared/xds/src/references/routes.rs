//! The clusters that routes send traffic to.

use envoy_types::pb::envoy::config::route::v3::{
    RouteAction, RouteConfiguration, route::Action, route_action::ClusterSpecifier,
};

use super::reference::{Reference, References, to};
use crate::resource_type::ResourceType;

impl References for RouteConfiguration {
    fn references(&self) -> Vec<Reference> {
        let routes = self.virtual_hosts.iter().flat_map(|host| &host.routes);
        let actions = routes.filter_map(|route| match &route.action {
            Some(Action::Route(action)) => Some(action),
            _ => None,
        });
        actions.flat_map(clusters).collect()
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
