//! References of filters: routes and clusters that receive the traffic, and clusters of services that filters call.

use envoy_types::pb::envoy::config::core::v3::{
    GrpcService, HttpUri, grpc_service::TargetSpecifier, http_uri::HttpUpstreamType,
};
use envoy_types::pb::envoy::extensions::filters::{
    http::{
        ext_authz::v3::{ExtAuthz, ext_authz::Services},
        ext_proc::v3::ExternalProcessor,
        jwt_authn::v3::{JwtAuthentication, jwt_provider::JwksSourceSpecifier},
        ratelimit::v3::RateLimit,
    },
    network::{
        ext_authz::v3::ExtAuthz as NetworkExtAuthz,
        http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier, http_filter,
        },
        tcp_proxy::v3::{TcpProxy, tcp_proxy},
    },
};
use envoy_types::pb::google::protobuf::Any;

use super::reference::{Reference, References, is_ours, to, unpack};
use crate::resource_type::ResourceType;

/// The references of a network filter: the routes and HTTP filters of an HTTP connection manager, the clusters of
/// a TCP proxy.
pub(super) fn network(config: &Any) -> Vec<Reference> {
    if let Some(manager) = unpack::<HttpConnectionManager>(config) {
        return connection_manager(&manager);
    }
    if let Some(check) = unpack::<NetworkExtAuthz>(config) {
        return check.grpc_service.iter().filter_map(by_grpc).collect();
    }
    match unpack::<TcpProxy>(config).and_then(|proxy| proxy.cluster_specifier) {
        Some(tcp_proxy::ClusterSpecifier::Cluster(name)) => vec![to(ResourceType::Cluster, &name)],
        Some(tcp_proxy::ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted.clusters.iter().map(|one| to(ResourceType::Cluster, &one.name)).collect()
        }
        _ => Vec::new(),
    }
}

fn connection_manager(manager: &HttpConnectionManager) -> Vec<Reference> {
    let mut found = match &manager.route_specifier {
        Some(RouteSpecifier::Rds(rds)) if is_ours(rds.config_source.as_ref()) => {
            vec![to(ResourceType::Route, &rds.route_config_name)]
        }
        Some(RouteSpecifier::RouteConfig(inline)) => inline.references(),
        _ => Vec::new(),
    };
    let configs = manager.http_filters.iter().filter_map(|filter| match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(config)) => Some(config),
        _ => None,
    });
    found.extend(configs.flat_map(http));
    found
}

/// The clusters of the services that an HTTP filter calls.
fn http(config: &Any) -> Vec<Reference> {
    if let Some(check) = unpack::<ExtAuthz>(config) {
        return match &check.services {
            Some(Services::GrpcService(service)) => by_grpc(service).into_iter().collect(),
            Some(Services::HttpService(service)) => service.server_uri.iter().filter_map(by_http).collect(),
            None => Vec::new(),
        };
    }
    if let Some(limit) = unpack::<RateLimit>(config) {
        let service = limit.rate_limit_service.and_then(|limits| limits.grpc_service);
        return service.iter().filter_map(by_grpc).collect();
    }
    if let Some(process) = unpack::<ExternalProcessor>(config) {
        let service = process.http_service.and_then(|service| service.http_service);
        let uri = service.and_then(|service| service.http_uri);
        return process
            .grpc_service
            .iter()
            .filter_map(by_grpc)
            .chain(uri.iter().filter_map(by_http))
            .collect();
    }
    let providers = unpack::<JwtAuthentication>(config).map(|jwt| jwt.providers).unwrap_or_default();
    let mut found: Vec<_> = providers
        .values()
        .filter_map(|provider| match &provider.jwks_source_specifier {
            Some(JwksSourceSpecifier::RemoteJwks(remote)) => remote.http_uri.as_ref().and_then(by_http),
            _ => None,
        })
        .collect();
    // A map has no order. Sorting makes every run report the same one of several errors.
    found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    found
}

fn by_grpc(service: &GrpcService) -> Option<Reference> {
    match &service.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(envoy)) => Some(to(ResourceType::Cluster, &envoy.cluster_name)),
        _ => None,
    }
}

fn by_http(uri: &HttpUri) -> Option<Reference> {
    let HttpUpstreamType::Cluster(name) = uri.http_upstream_type.as_ref()?;
    Some(to(ResourceType::Cluster, name))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use envoy_types::pb::envoy::config::core::v3::{HttpService, grpc_service::EnvoyGrpc};
    use envoy_types::pb::envoy::config::ratelimit::v3::RateLimitServiceConfig;
    use envoy_types::pb::envoy::extensions::filters::http::{
        ext_authz::v3::HttpService as ExtAuthzHttp,
        ext_proc::v3::ExtProcHttpService,
        jwt_authn::v3::{JwtProvider, RemoteJwks},
    };
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
    use envoy_types::util::pack_any;

    use super::*;

    fn grpc(cluster: &str) -> GrpcService {
        let envoy = EnvoyGrpc { cluster_name: cluster.to_owned(), ..EnvoyGrpc::default() };
        GrpcService { target_specifier: Some(TargetSpecifier::EnvoyGrpc(envoy)), ..GrpcService::default() }
    }

    fn uri(cluster: &str) -> HttpUri {
        let cluster = Some(HttpUpstreamType::Cluster(cluster.to_owned()));
        HttpUri { http_upstream_type: cluster, ..HttpUri::default() }
    }

    /// The names of the clusters that an HTTP filter with this configuration refers to.
    fn clusters_of(config: Any) -> Vec<String> {
        let filter = HttpFilter {
            config_type: Some(http_filter::ConfigType::TypedConfig(config)),
            ..HttpFilter::default()
        };
        let manager = HttpConnectionManager { http_filters: vec![filter], ..Default::default() };
        let found = network(&pack_any(manager));
        assert!(found.iter().all(|to| to.kind == ResourceType::Cluster), "{found:?}");
        found.iter().map(|to| to.name.to_string()).collect()
    }

    #[test]
    fn an_http_filter_refers_to_the_cluster_of_the_service_that_it_calls() {
        let check = ExtAuthz { services: Some(Services::GrpcService(grpc("a"))), ..Default::default() };
        assert_eq!(clusters_of(pack_any(check)), ["a"]);
        let http = ExtAuthzHttp { server_uri: Some(uri("a")), ..Default::default() };
        let check = ExtAuthz { services: Some(Services::HttpService(http)), ..Default::default() };
        assert_eq!(clusters_of(pack_any(check)), ["a"]);
        let service = RateLimitServiceConfig { grpc_service: Some(grpc("a")), ..Default::default() };
        let limit = RateLimit { rate_limit_service: Some(service), ..Default::default() };
        assert_eq!(clusters_of(pack_any(limit)), ["a"]);
        let process = ExternalProcessor { grpc_service: Some(grpc("a")), ..Default::default() };
        assert_eq!(clusters_of(pack_any(process)), ["a"]);
        let http = HttpService { http_uri: Some(uri("a")), ..Default::default() };
        let http = Some(ExtProcHttpService { http_service: Some(http) });
        let process = ExternalProcessor { http_service: http, ..Default::default() };
        assert_eq!(clusters_of(pack_any(process)), ["a"]);
        let provider = |cluster: &str| {
            let remote = RemoteJwks { http_uri: Some(uri(cluster)), ..Default::default() };
            let source = Some(JwksSourceSpecifier::RemoteJwks(remote));
            (
                format!("provider {cluster}"),
                JwtProvider { jwks_source_specifier: source, ..Default::default() },
            )
        };
        let providers = HashMap::from(["b", "a", "c"].map(provider));
        let jwt = JwtAuthentication { providers, ..Default::default() };
        assert_eq!(clusters_of(pack_any(jwt)), ["a", "b", "c"]);
    }

    #[test]
    fn a_filter_without_a_named_service_has_no_references() {
        assert!(clusters_of(pack_any(ExtAuthz::default())).is_empty());
        assert!(clusters_of(pack_any(JwtAuthentication::default())).is_empty());
        assert!(
            clusters_of(Any { type_url: "type.googleapis.com/x.Y".to_owned(), value: vec![1] }).is_empty()
        );
        let broken = Any { value: vec![0xff], ..pack_any(ExtAuthz::default()) };
        assert!(clusters_of(broken).is_empty());
    }

    #[test]
    fn a_network_filter_refers_to_the_cluster_of_the_service_that_it_calls() {
        let check = NetworkExtAuthz { grpc_service: Some(grpc("a")), ..Default::default() };
        assert_eq!(network(&pack_any(check)), [to(ResourceType::Cluster, "a")]);
    }
}
