//! The topology as data: the listeners of Envoy, the authorizers that each of them asks, and all addresses.
//!
//! ```text
//!   caller ──> listener ──ext_authz──> authorizer (a cluster of them)
//!                  └──then──> backend
//! ```
//!
//! The first [`ListenerSpec`] is the listener of `envoy/envoy.yaml`, with the addresses of the run and its own prefix in
//! the statistics. All others are copies of it with one difference each, so that a measured difference has one cause.
//! Pure: values in, text out.

use std::net::{Ipv4Addr, SocketAddr};

use mesh_pki::Issued;
use serde_json::{Value, json};

/// Envoy's configuration, as containers use it.
pub const ENVOY_CONFIG: &str = include_str!("../envoy/envoy.yaml");

/// The listener of the file.
pub const FRONT_LISTENER: &str = "front";

/// The cluster of authorizers of the file.
pub const AUTHZ_CLUSTER: &str = "authz";

/// The cluster of backends.
pub const BACKEND_CLUSTER: &str = "backend";

/// The name that Envoy's certificate has.
pub const SERVER_NAME: &str = "greeter.demo5.example";

/// How long Envoy waits for a decision, as the file says; a test holds it to that.
pub const EXT_AUTHZ_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(200);

/// A listener, and how it uses ext_authz.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it asks an authorizer; no ext_authz filter if `None`.
    pub ext_authz: Option<ExtAuthz>,
    /// Whether it speaks TLS, and looks at client certificates.
    pub tls: bool,
}

/// The ext_authz settings of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtAuthz {
    /// The cluster of authorizers.
    pub cluster: String,
    /// Whether requests pass when there is no answer.
    pub failure_mode_allow: bool,
    /// How much of a request's body it sends along, if any.
    pub body: Option<Body>,
}

/// A request's body for the authorizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// The maximum number of bytes.
    pub max_bytes: u32,
    /// Whether the beginning of a longer one will do.
    pub allow_partial: bool,
}

/// A cluster of authorizers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizerCluster {
    /// The cluster's name.
    pub name: String,
    /// Where they are.
    pub addresses: Vec<SocketAddr>,
    /// Whether Envoy asks them for their health, and passes over those that are not well.
    pub health_checks: bool,
}

/// Everything that one Envoy is configured with.
#[derive(Clone, Debug)]
pub struct EnvoyTopology {
    /// The admin interface.
    pub admin: SocketAddr,
    /// Its listeners.
    pub listeners: Vec<ListenerSpec>,
    /// Its authorizers.
    pub authorizers: Vec<AuthorizerCluster>,
    /// Where the backend is.
    pub backend: SocketAddr,
    /// Envoy's certificate, and the roots whose client certificates it believes: for listeners with TLS.
    pub tls: Option<(Issued, String)>,
}

impl ListenerSpec {
    /// Creates a listener on a free port of loopback that asks this cluster and fails closed.
    pub fn new(name: &str, cluster: &str) -> Self {
        let ext_authz = ExtAuthz { cluster: cluster.to_owned(), failure_mode_allow: false, body: None };
        Self { name: name.to_owned(), address: loopback(0), ext_authz: Some(ext_authz), tls: false }
    }

    /// Creates a listener without ext_authz.
    pub fn without_ext_authz(name: &str) -> Self {
        Self { name: name.to_owned(), address: loopback(0), ext_authz: None, tls: false }
    }

    /// Sets the port on loopback.
    #[must_use]
    pub fn on_port(mut self, port: u16) -> Self {
        self.address = loopback(port);
        self
    }

    /// Makes the listener fail open.
    #[must_use]
    pub fn fail_open(mut self) -> Self {
        self.ext_authz.iter_mut().for_each(|ext_authz| ext_authz.failure_mode_allow = true);
        self
    }

    /// Sends request bodies to the authorizer.
    #[must_use]
    pub fn with_body(mut self, max_bytes: u32, allow_partial: bool) -> Self {
        self.ext_authz
            .iter_mut()
            .for_each(|ext_authz| ext_authz.body = Some(Body { max_bytes, allow_partial }));
        self
    }

    /// Adds TLS.
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }
}

/// This port of this machine alone.
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The file as a value.
///
/// # Errors
/// If it is no YAML, which a test would have found.
pub fn parse_config() -> Result<Value, serde_saphyr::Error> {
    serde_saphyr::from_str(ENVOY_CONFIG)
}

impl EnvoyTopology {
    /// The text for Envoy's `--config-yaml`.
    ///
    /// # Errors
    /// As [`parse_config()`].
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::Error> {
        let mut config = parse_config()?;
        config["admin"]["address"] = socket(self.admin);
        let static_resources = &mut config["static_resources"];
        let listener = static_resources["listeners"][0].take();
        let [mut backend, authz] = [0, 1].map(|index| static_resources["clusters"][index].take());
        // Addresses in place of names, so that nobody is asked for them.
        set_addresses(&mut backend, BACKEND_CLUSTER, &[self.backend]);
        let authorizers = self.authorizers.iter().map(|authorizers| {
            let mut cluster = authz.clone();
            set_addresses(&mut cluster, &authorizers.name, &authorizers.addresses);
            if !authorizers.health_checks {
                cluster.as_object_mut().map(|cluster| cluster.remove("health_checks"));
            }
            cluster
        });
        static_resources["clusters"] = std::iter::once(backend).chain(authorizers).collect();
        static_resources["listeners"] =
            self.listeners.iter().map(|spec| self.listener(listener.clone(), spec)).collect();
        Ok(config.to_string())
    }

    fn listener(&self, mut listener: Value, spec: &ListenerSpec) -> Value {
        listener["name"] = json!(spec.name);
        listener["address"] = socket(spec.address);
        let filter_chain = &mut listener["filter_chains"][0];
        if let (true, Some((certificate, roots))) = (spec.tls, &self.tls) {
            filter_chain["transport_socket"] = tls(certificate, roots);
        }
        let http_connection_manager = &mut filter_chain["filters"][0]["typed_config"];
        http_connection_manager["stat_prefix"] = json!(spec.name);
        match (&spec.ext_authz, http_connection_manager["http_filters"].as_array_mut()) {
            (None, Some(filters)) => {
                filters.remove(0);
                // What says how a route is to use the filter has no meaning without it.
                for route in http_connection_manager["route_config"]["virtual_hosts"][0]["routes"]
                    .as_array_mut()
                    .into_iter()
                    .flatten()
                {
                    route.as_object_mut().map(|route| route.remove("typed_per_filter_config"));
                }
            }
            (Some(ext_authz), Some(filters)) => {
                let filter = &mut filters[0]["typed_config"];
                filter["grpc_service"]["envoy_grpc"]["cluster_name"] = json!(ext_authz.cluster);
                filter["failure_mode_allow"] = json!(ext_authz.failure_mode_allow);
                // Statistics of its own: "…ext_authz.<listener>.ok".
                filter["stat_prefix"] = json!(spec.name);
                if let Some(Body { max_bytes, allow_partial }) = ext_authz.body {
                    filter["with_request_body"] = json!({ "max_request_bytes": max_bytes, "allow_partial_message": allow_partial, "pack_as_bytes": true });
                }
            }
            (_, None) => {}
        }
        listener
    }
}

/// Sets the name and the addresses of a cluster.
fn set_addresses(cluster: &mut Value, name: &str, addresses: &[SocketAddr]) {
    let endpoint = |&address| json!({ "endpoint": { "address": socket(address) } });
    let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    cluster["name"] = json!(name);
    cluster["type"] = json!("STATIC");
    for dns_only in ["dns_refresh_rate", "respect_dns_ttl"] {
        cluster.as_object_mut().map(|cluster| cluster.remove(dns_only));
    }
    cluster["load_assignment"] =
        json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] });
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// `DownstreamTlsContext`: Envoy's own certificate, and whose client certificates it believes. A client may show none; one
/// that it shows must be good, or there is no connection.
fn tls(certificate: &Issued, roots: &str) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": false,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": { "inline_string": certificate.chain_pem },
                    "private_key": { "inline_string": certificate.key_pem.expose() },
                }],
                "validation_context": { "trusted_ca": { "inline_string": roots } },
            },
        },
    })
}
