//! The world as data: which doors Envoy has, whom it asks at each, and where everybody is.
//!
//! ```text
//!   caller ──> door ──asks──> authorizer (a cluster of them)
//!                └──then──> backend
//! ```
//!
//! A [`Door`] is a listener. The first one is the file `envoy/envoy.yaml`, with the run's addresses and a name of its
//! own in the statistics; all others are copies of it that differ in what they say, so that a measured difference has
//! one cause. Pure: values in, text out.

use std::net::{Ipv4Addr, SocketAddr};

use mesh_pki::Issued;
use serde_json::{Value, json};

/// Envoy's configuration, as containers use it.
pub const ENVOY: &str = include_str!("../envoy/envoy.yaml");

/// The door of the file.
pub const FRONT: &str = "front";

/// The cluster of authorizers of the file.
pub const AUTHZ: &str = "authz";

/// The cluster of backends.
pub const BACKEND: &str = "backend";

/// The name that Envoy's certificate has.
pub const HOST: &str = "greeter.demo5.example";

/// How long Envoy waits for a decision, as the file says; a test holds it to that.
pub const TIMEOUT: std::time::Duration = std::time::Duration::from_millis(200);

/// A listener, and how it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whom it asks; nobody if `None`.
    pub asks: Option<Asks>,
    /// Whether it speaks TLS, and looks at client certificates.
    pub tls: bool,
}

/// How a door asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asks {
    /// The cluster of authorizers.
    pub cluster: String,
    /// Whether requests pass when there is no answer.
    pub open: bool,
    /// How much of a request's body it sends along, if any.
    pub body: Option<Body>,
}

/// A request's body for the authorizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// The most bytes of it.
    pub most: u32,
    /// Whether the beginning of a longer one will do.
    pub partial: bool,
}

/// Authorizers that are asked in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorizers {
    /// The cluster's name.
    pub cluster: String,
    /// Where they are.
    pub addresses: Vec<SocketAddr>,
    /// Whether Envoy asks them for their health, and passes over those that are not well.
    pub health_checks: bool,
}

/// One Envoy's whole world.
#[derive(Clone, Debug)]
pub struct World {
    /// The admin interface.
    pub admin: SocketAddr,
    /// Its doors.
    pub doors: Vec<Door>,
    /// Its authorizers.
    pub authorizers: Vec<Authorizers>,
    /// Where the backend is.
    pub backend: SocketAddr,
    /// Envoy's certificate, and the roots whose client certificates it believes: for doors with TLS.
    pub tls: Option<(Issued, String)>,
}

impl Door {
    /// A door on a free port of loopback that asks this cluster, and keeps shut without an answer.
    pub fn new(name: &str, cluster: &str) -> Self {
        let asks = Asks { cluster: cluster.to_owned(), open: false, body: None };
        Self { name: name.to_owned(), address: loopback(0), asks: Some(asks), tls: false }
    }

    /// A door at which nobody is asked.
    pub fn bare(name: &str) -> Self {
        Self { name: name.to_owned(), address: loopback(0), asks: None, tls: false }
    }

    /// The same door at this port of loopback.
    #[must_use]
    pub fn at(mut self, port: u16) -> Self {
        self.address = loopback(port);
        self
    }

    /// The same door, open when there is no answer.
    #[must_use]
    pub fn open(mut self) -> Self {
        self.asks.iter_mut().for_each(|asks| asks.open = true);
        self
    }

    /// The same door, which sends bodies along.
    #[must_use]
    pub fn with_body(mut self, most: u32, partial: bool) -> Self {
        self.asks.iter_mut().for_each(|asks| asks.body = Some(Body { most, partial }));
        self
    }

    /// The same door with TLS.
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
pub fn file() -> Result<Value, serde_saphyr::Error> {
    serde_saphyr::from_str(ENVOY)
}

impl World {
    /// The text for Envoy's `--config-yaml`.
    ///
    /// # Errors
    /// As [`file()`].
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::Error> {
        let mut config = file()?;
        config["admin"]["address"] = socket(self.admin);
        let statics = &mut config["static_resources"];
        let listener = statics["listeners"][0].take();
        let [mut backend, authz] = [0, 1].map(|index| statics["clusters"][index].take());
        // Addresses in place of names, so that nobody is asked for them.
        locate(&mut backend, BACKEND, &[self.backend]);
        let authorizers = self.authorizers.iter().map(|authorizers| {
            let mut cluster = authz.clone();
            locate(&mut cluster, &authorizers.cluster, &authorizers.addresses);
            if !authorizers.health_checks {
                cluster.as_object_mut().map(|cluster| cluster.remove("health_checks"));
            }
            cluster
        });
        statics["clusters"] = std::iter::once(backend).chain(authorizers).collect();
        statics["listeners"] = self.doors.iter().map(|door| self.listener(listener.clone(), door)).collect();
        Ok(config.to_string())
    }

    fn listener(&self, mut listener: Value, door: &Door) -> Value {
        listener["name"] = json!(door.name);
        listener["address"] = socket(door.address);
        let chain = &mut listener["filter_chains"][0];
        if let (true, Some((own, roots))) = (door.tls, &self.tls) {
            chain["transport_socket"] = tls(own, roots);
        }
        let manager = &mut chain["filters"][0]["typed_config"];
        manager["stat_prefix"] = json!(door.name);
        match (&door.asks, manager["http_filters"].as_array_mut()) {
            (None, Some(filters)) => {
                filters.remove(0);
                // What says how a route is to use the filter has no meaning without it.
                for route in
                    manager["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().into_iter().flatten()
                {
                    route.as_object_mut().map(|route| route.remove("typed_per_filter_config"));
                }
            }
            (Some(asks), Some(filters)) => {
                let filter = &mut filters[0]["typed_config"];
                filter["grpc_service"]["envoy_grpc"]["cluster_name"] = json!(asks.cluster);
                filter["failure_mode_allow"] = json!(asks.open);
                // Statistics of its own: "…ext_authz.<door>.ok".
                filter["stat_prefix"] = json!(door.name);
                if let Some(Body { most, partial }) = asks.body {
                    filter["with_request_body"] = json!({ "max_request_bytes": most, "allow_partial_message": partial, "pack_as_bytes": true });
                }
            }
            (_, None) => {}
        }
        listener
    }
}

/// A cluster of this name at these addresses.
fn locate(cluster: &mut Value, name: &str, addresses: &[SocketAddr]) {
    let endpoint = |&address| json!({ "endpoint": { "address": socket(address) } });
    let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    cluster["name"] = json!(name);
    cluster["type"] = json!("STATIC");
    for of_names in ["dns_refresh_rate", "respect_dns_ttl"] {
        cluster.as_object_mut().map(|cluster| cluster.remove(of_names));
    }
    cluster["load_assignment"] =
        json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] });
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// `DownstreamTlsContext`: Envoy's own certificate, and whose client certificates it believes. A client may show none; one
/// that it shows must be good, or there is no connection.
fn tls(own: &Issued, roots: &str) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": false,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": { "inline_string": own.chain_pem },
                    "private_key": { "inline_string": own.key_pem.expose() },
                }],
                "validation_context": { "trusted_ca": { "inline_string": roots } },
            },
        },
    })
}
