//! Resources with what every client demands filled in; the rest is left to Envoy's API itself.
//!
//! Each function returns the plain message of Envoy's API, to be changed further before it becomes a
//! [`Resource`](super::Resource). What is set, and for whom, stands beside each field: Envoy and the
//! gRPC clients refuse different omissions, and some omissions are accepted and do not work.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::{
    cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
    },
    core::v3::{
        Address, AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, Http2ProtocolOptions,
        Locality, SocketAddress, TransportSocket, address, config_source::ConfigSourceSpecifier,
        data_source::Specifier, socket_address::PortSpecifier, transport_socket,
    },
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
    },
    listener::v3::{ApiListener, Filter, FilterChain, Listener, filter},
    route::v3::{
        RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster,
        retry_policy::{RetryHostPredicate, retry_host_predicate},
        route::Action,
        route_action::ClusterSpecifier,
        route_match::PathSpecifier,
        weighted_cluster::ClusterWeight,
    },
};
use envoy_types::pb::envoy::extensions::{
    filters::http::router::v3::Router,
    filters::network::http_connection_manager::v3::{
        HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier, http_filter,
    },
    retry::host::previous_hosts::v3::PreviousHostsPredicate,
    transport_sockets::tls::v3::{
        CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, Secret, TlsCertificate, secret,
    },
    upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{
            ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
        },
    },
};
use envoy_types::pb::google::protobuf::{self, Any, UInt32Value};
use envoy_types::util::pack_any;

mod balancing;

pub use balancing::{with_health_checks, with_locality_weights, with_outlier_detection};

/// "Ask the server that told you this": the aggregated stream.
pub fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

/// A cluster of gRPC backends whose endpoints come by EDS under the cluster's own name.
pub fn cluster(name: &str) -> Cluster {
    let http2 = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
        })),
        ..HttpProtocolOptions::default()
    };
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        // Both gRPC and Envoy refuse an EDS cluster that does not say where its endpoints come from.
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), service_name: String::new() }),
        connect_timeout: Some(seconds(Duration::from_secs(1))),
        // Envoy would speak HTTP/1.1 to the backends, and every call would fail.
        typed_extension_protocol_options: [(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            pack_any(http2),
        )]
        .into(),
        ..Cluster::default()
    }
}

/// Backends at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalityEndpoints {
    /// The place; Envoy's `region`.
    pub region: String,
    /// Its share of the calls, relative to the other places of the same priority. At least 1.
    pub weight: u32,
    /// 0 is the highest priority; there must be no gap.
    pub priority: u32,
    /// The backends.
    pub addresses: Vec<SocketAddr>,
}

/// The endpoints of a cluster.
pub fn endpoints(cluster: &str, localities: &[LocalityEndpoints]) -> ClusterLoadAssignment {
    let locality = |place: &LocalityEndpoints| LocalityLbEndpoints {
        // gRPC refuses endpoints without a locality, and drops a locality without a weight.
        locality: Some(Locality { region: place.region.clone(), ..Locality::default() }),
        load_balancing_weight: Some(UInt32Value { value: place.weight }),
        priority: place.priority,
        lb_endpoints: place.addresses.iter().map(|at| endpoint(*at)).collect(),
        ..LocalityLbEndpoints::default()
    };
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: localities.iter().map(locality).collect(),
        ..ClusterLoadAssignment::default()
    }
}

fn endpoint(at: SocketAddr) -> LbEndpoint {
    let endpoint = Endpoint { address: Some(address(at)), ..Endpoint::default() };
    LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() }
}

/// All calls to one cluster.
pub fn route(name: &str, cluster: &str) -> RouteConfiguration {
    route_to(name, ClusterSpecifier::Cluster(cluster.to_owned()))
}

/// Calls split over clusters by weight. A cluster that is to get none keeps its place with weight 0.
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
        // Envoy's default of 15 s would cut streams; a gRPC call carries a deadline of its own.
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

/// Lets calls be tried again on another backend if theirs could not be reached or refused them.
///
/// Such a call was not begun, so that trying again does nothing twice. Envoy looks for a backend that has not
/// failed this call yet (its documentation: "Retry plugin configuration"); gRPC clients pass over that part.
#[must_use]
pub fn with_retries(mut route: RouteConfiguration, retries: u32) -> RouteConfiguration {
    for host in &mut route.virtual_hosts {
        host.retry_policy = Some(RetryPolicy {
            retry_on: "connect-failure,refused-stream,reset-before-request,unavailable".to_owned(),
            num_retries: Some(UInt32Value { value: retries }),
            retry_host_predicate: vec![elsewhere()],
            // How often Envoy draws anew; then it takes what it drew.
            host_selection_retry_max_attempts: 5,
            ..RetryPolicy::default()
        });
    }
    route
}

/// Refuses backends that a call has been tried on.
fn elsewhere() -> RetryHostPredicate {
    let predicate = retry_host_predicate::ConfigType::TypedConfig(pack_any(PreviousHostsPredicate {}));
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(predicate),
    }
}

/// An HTTP/1.1 and HTTP/2 listener whose routes come by RDS.
pub fn listener(name: &str, at: SocketAddr, route: &str) -> Listener {
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack_any(connection_manager(name, route)))),
    };
    Listener {
        name: name.to_owned(),
        address: Some(address(at)),
        filter_chains: vec![FilterChain { filters: vec![filter], ..FilterChain::default() }],
        ..Listener::default()
    }
}

/// What a gRPC client that speaks xDS itself asks for when it calls `xds:///name`. Nothing listens.
pub fn api_listener(name: &str, route: &str) -> Listener {
    let manager = pack_any(connection_manager(name, route));
    Listener {
        name: name.to_owned(),
        api_listener: Some(ApiListener { api_listener: Some(manager) }),
        ..Listener::default()
    }
}

fn connection_manager(name: &str, route: &str) -> HttpConnectionManager {
    // gRPC refuses a connection manager without a router; Envoy accepts it, and then leaves every
    // request hanging.
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack_any(Router::default()))),
        ..HttpFilter::default()
    };
    HttpConnectionManager {
        // Envoy refuses an empty one.
        stat_prefix: name.to_owned(),
        http_filters: vec![router],
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: route.to_owned(),
        })),
        ..HttpConnectionManager::default()
    }
}

/// Lets a listener speak TLS with the certificate that comes by SDS under the name `secret`.
#[must_use]
pub fn with_tls(mut listener: Listener, secret: &str) -> Listener {
    let certificate = SdsSecretConfig { name: secret.to_owned(), sds_config: Some(ads()) };
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![certificate],
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            ..CommonTlsContext::default()
        }),
        ..DownstreamTlsContext::default()
    };
    for chain in &mut listener.filter_chains {
        chain.transport_socket = Some(TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(transport_socket::ConfigType::TypedConfig(pack_any(context.clone()))),
        });
    }
    listener
}

/// Puts a filter that no Envoy has into a listener, for showing what a refusal looks like.
#[must_use]
pub fn unknown_filter(mut listener: Listener) -> Listener {
    let config = Any { type_url: "type.googleapis.com/mesh.NoSuchFilter".to_owned(), value: Vec::new() };
    let unknown = Filter {
        name: "mesh.no_such_filter".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(config)),
    };
    for chain in &mut listener.filter_chains {
        chain.filters.insert(0, unknown.clone());
    }
    listener
}

/// A certificate chain and its private key, both PEM.
///
/// The key travels on the wire: serve it over mutual TLS or loopback only.
pub fn secret(name: &str, chain_pem: &str, key_pem: &str) -> Secret {
    let inline = |pem: &str| {
        Some(DataSource { specifier: Some(Specifier::InlineString(pem.to_owned())), ..DataSource::default() })
    };
    let certificate = TlsCertificate {
        certificate_chain: inline(chain_pem),
        private_key: inline(key_pem),
        ..TlsCertificate::default()
    };
    Secret { name: name.to_owned(), r#type: Some(secret::Type::TlsCertificate(certificate)) }
}

/// A socket address in Envoy's form.
pub fn address(at: SocketAddr) -> Address {
    let socket = SocketAddress {
        address: at.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(at.port()))),
        ..SocketAddress::default()
    };
    Address { address: Some(address::Address::SocketAddress(socket)) }
}

fn seconds(duration: Duration) -> protobuf::Duration {
    // Saturates far beyond any timeout.
    protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}
