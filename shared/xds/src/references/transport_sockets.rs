//! References of transport sockets: the secrets of TLS, also if other sockets are wrapped around it.

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::{
    http_11_proxy::v3::Http11ProxyUpstreamTransport,
    internal_upstream::v3::InternalUpstreamTransport,
    proxy_protocol::v3::ProxyProtocolUpstreamTransport,
    starttls::v3::{StartTlsConfig, UpstreamStartTlsConfig},
    tap::v3::Tap,
    tcp_stats::v3::Config as TcpStats,
    tls::v3::{
        CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext,
        common_tls_context::ValidationContextType,
    },
};
use envoy_types::pb::google::protobuf::Any;

use super::reference::{Reference, is_ours, to, unpack};
use crate::resource_type::ResourceType;

/// How many wrapping sockets are unpacked. Real configurations have two or three; untrusted bytes could have any
/// number.
const MAX_LAYERS: usize = 8;

/// The secrets that a TLS transport socket fetches by SDS, wrapped or not.
pub(super) fn secrets(socket: &TransportSocket) -> Vec<Reference> {
    let mut config = config_of(socket).cloned();
    for _ in 0..MAX_LAYERS {
        let Some(outer) = &config else { return Vec::new() };
        if let Some(common) = tls(outer) {
            let ours = sds_configs(&common).into_iter().filter(|sds| is_ours(sds.sds_config.as_ref()));
            return ours.map(|sds| to(ResourceType::Secret, &sds.name)).collect();
        }
        config = inner(outer).as_ref().and_then(config_of).cloned();
    }
    Vec::new()
}

fn config_of(socket: &TransportSocket) -> Option<&Any> {
    match &socket.config_type {
        Some(transport_socket::ConfigType::TypedConfig(config)) => Some(config),
        _ => None,
    }
}

fn tls(config: &Any) -> Option<CommonTlsContext> {
    let down = || unpack::<DownstreamTlsContext>(config);
    let up = || unpack::<UpstreamTlsContext>(config);
    let later_down = || unpack::<StartTlsConfig>(config)?.tls_socket_config;
    let later_up = || unpack::<UpstreamStartTlsConfig>(config)?.tls_socket_config;
    if let Some(context) = down().or_else(later_down) {
        return context.common_tls_context;
    }
    up().or_else(later_up)?.common_tls_context
}

/// The socket that this one wraps.
fn inner(config: &Any) -> Option<TransportSocket> {
    if let Some(outer) = unpack::<ProxyProtocolUpstreamTransport>(config) {
        return outer.transport_socket;
    }
    if let Some(outer) = unpack::<Http11ProxyUpstreamTransport>(config) {
        return outer.transport_socket;
    }
    if let Some(outer) = unpack::<InternalUpstreamTransport>(config) {
        return outer.transport_socket;
    }
    if let Some(outer) = unpack::<Tap>(config) {
        return outer.transport_socket;
    }
    unpack::<TcpStats>(config)?.transport_socket
}

fn sds_configs(common: &CommonTlsContext) -> Vec<&SdsSecretConfig> {
    let mut found: Vec<&SdsSecretConfig> = common.tls_certificate_sds_secret_configs.iter().collect();
    match &common.validation_context_type {
        Some(ValidationContextType::ValidationContextSdsSecretConfig(sds)) => found.push(sds),
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            found.extend(&combined.validation_context_sds_secret_config);
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use envoy_types::util::pack_any;

    use super::*;
    use crate::builders;

    fn socket(config: Any) -> Option<TransportSocket> {
        let config_type = Some(transport_socket::ConfigType::TypedConfig(config));
        Some(TransportSocket { name: "socket".to_owned(), config_type })
    }

    fn context() -> CommonTlsContext {
        let sds = SdsSecretConfig { name: "mine".to_owned(), sds_config: Some(builders::ads()) };
        CommonTlsContext { tls_certificate_sds_secret_configs: vec![sds], ..Default::default() }
    }

    fn up() -> UpstreamTlsContext {
        UpstreamTlsContext { common_tls_context: Some(context()), ..Default::default() }
    }

    fn down() -> DownstreamTlsContext {
        DownstreamTlsContext { common_tls_context: Some(context()), ..Default::default() }
    }

    fn proxy(transport_socket: Option<TransportSocket>) -> Any {
        pack_any(ProxyProtocolUpstreamTransport { transport_socket, ..Default::default() })
    }

    #[test]
    fn a_wrapped_socket_refers_to_the_secrets_of_the_inner_socket() {
        let inside = || socket(pack_any(up()));
        for config in [
            pack_any(down()),
            pack_any(up()),
            pack_any(StartTlsConfig { tls_socket_config: Some(down()), ..Default::default() }),
            pack_any(UpstreamStartTlsConfig { tls_socket_config: Some(up()), ..Default::default() }),
            proxy(inside()),
            pack_any(Http11ProxyUpstreamTransport { transport_socket: inside(), ..Default::default() }),
            pack_any(InternalUpstreamTransport { transport_socket: inside(), ..Default::default() }),
            pack_any(Tap { transport_socket: inside(), ..Default::default() }),
            pack_any(TcpStats { transport_socket: inside(), ..Default::default() }),
            proxy(socket(pack_any(Tap { transport_socket: inside(), ..Default::default() }))),
        ] {
            let kind = config.type_url.clone();
            let found = secrets(&socket(config).unwrap());
            assert_eq!(found, [to(ResourceType::Secret, "mine")], "{kind}");
        }
        assert!(secrets(&socket(proxy(None)).unwrap()).is_empty());
    }

    #[test]
    fn a_thousand_wrapping_sockets_are_not_unpacked() {
        let mut config = pack_any(up());
        for _ in 0..1000 {
            config = proxy(socket(config));
        }
        assert!(secrets(&socket(config).unwrap()).is_empty());
    }
}
