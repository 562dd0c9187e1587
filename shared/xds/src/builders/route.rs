//! Route configurations.

use envoy_types::pb::envoy::config::route::v3::{
    RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster,
    retry_policy::{RetryHostPredicate, retry_host_predicate},
    route::Action,
    route_action::ClusterSpecifier,
    route_match::PathSpecifier,
    weighted_cluster::ClusterWeight,
};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::google::protobuf::{self, UInt32Value};
use envoy_types::util::pack_any;

/// Sends all calls to one cluster.
pub fn route(name: &str, cluster: &str) -> RouteConfiguration {
    route_to(name, ClusterSpecifier::Cluster(cluster.to_owned()))
}

/// Splits calls between clusters by weight. A cluster without calls keeps its place with weight 0.
pub fn weighted_route(name: &str, weights: &[(&str, u32)]) -> RouteConfiguration {
    let clusters = weights.iter().map(|(cluster, weight)| ClusterWeight {
        name: (*cluster).to_owned(),
        weight: Some(UInt32Value { value: *weight }),
        ..ClusterWeight::default()
    });
    let weighted = WeightedCluster { clusters: clusters.collect(), ..WeightedCluster::default() };
    route_to(name, ClusterSpecifier::WeightedClusters(weighted))
}

fn route_to(name: &str, clusters: ClusterSpecifier) -> RouteConfiguration {
    let everything =
        RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() };
    let action = RouteAction {
        cluster_specifier: Some(clusters),
        // Envoy's default of 15 s would cut streams; a gRPC call has its own deadline.
        timeout: Some(protobuf::Duration::default()),
        ..RouteAction::default()
    };
    let route = Route { r#match: Some(everything), action: Some(Action::Route(action)), ..Route::default() };
    let host = VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..VirtualHost::default()
    };
    RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host], ..RouteConfiguration::default() }
}

/// Adds retries on another backend for calls whose backend was unreachable or refused them.
///
/// The backend did not begin such a call, so a retry does nothing twice. Envoy picks a backend that has not failed
/// this call yet (its documentation: "Retry plugin configuration"); gRPC clients ignore that part.
#[must_use]
pub fn with_retries(mut route: RouteConfiguration, retries: u32) -> RouteConfiguration {
    for host in &mut route.virtual_hosts {
        host.retry_policy = Some(RetryPolicy {
            retry_on: "connect-failure,refused-stream,reset-before-request,unavailable".to_owned(),
            num_retries: Some(UInt32Value { value: retries }),
            retry_host_predicate: vec![previous_hosts_predicate()],
            // How often Envoy picks again; then it takes the last pick.
            host_selection_retry_max_attempts: 5,
            ..RetryPolicy::default()
        });
    }
    route
}

/// Makes a retry skip backends that the call was sent to before.
fn previous_hosts_predicate() -> RetryHostPredicate {
    let predicate = retry_host_predicate::ConfigType::TypedConfig(pack_any(PreviousHostsPredicate {}));
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(predicate),
    }
}
