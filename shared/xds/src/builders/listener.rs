//! Listeners, with and without TLS, and secrets.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::{
    core::v3::{DataSource, TransportSocket, data_source::Specifier, transport_socket},
    listener::v3::{ApiListener, Filter, FilterChain, Listener, filter},
};
use envoy_types::pb::envoy::extensions::{
    filters::http::router::v3::Router,
    filters::network::http_connection_manager::v3::{
        HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier, http_filter,
    },
    transport_sockets::tls::v3::{
        CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, Secret, TlsCertificate, secret,
    },
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;

use super::common::{address, ads};

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

/// The listener that a proxyless gRPC client requests when it calls `xds:///name`. It opens no port.
pub fn api_listener(name: &str, route: &str) -> Listener {
    let manager = pack_any(connection_manager(name, route));
    Listener {
        name: name.to_owned(),
        api_listener: Some(ApiListener { api_listener: Some(manager) }),
        ..Listener::default()
    }
}

fn connection_manager(name: &str, route: &str) -> HttpConnectionManager {
    // gRPC rejects a connection manager without a router. Envoy accepts it, and then never answers a request.
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack_any(Router::default()))),
        ..HttpFilter::default()
    };
    HttpConnectionManager {
        // Envoy rejects an empty prefix.
        stat_prefix: name.to_owned(),
        http_filters: vec![router],
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: route.to_owned(),
        })),
        ..HttpConnectionManager::default()
    }
}

/// Makes a listener serve TLS with the certificate that SDS has under the name `secret`.
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

/// Adds a filter that Envoy does not have, to provoke a NACK.
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
