//! The world as data: who calls whom, through which Envoy, at which port.
//!
//! ```text
//!   load ──> front ──> [a: in] ──> A ──> [a: out] ──/b──> [b: in] ──> B
//!                                                └──/c──> [c: in] ──> C
//! ```
//!
//! `[x: in]` and `[x: out]` are two listeners of one Envoy, x's sidecar. Knows no process; of metrics
//! only which ones an Envoy keeps.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

/// The services.
pub const SERVICES: [&str; 3] = ["a", "b", "c"];

/// The Envoys: one in front, and one beside each service.
pub const ENVOYS: [&str; 4] = ["front", "a", "b", "c"];

/// Who calls whom, as `envoy -> cluster`: the Envoy that counts the edge, and its name for the other end.
pub const EDGES: [(&str, &str); 3] = [("front", "a"), ("a", "b"), ("a", "c")];

/// How often a's sidecar tries a failed call of C again. More than anybody should allow: with every fifth try failing,
/// even by lot, all ten fail in one of 10^7 calls, so that of a load of 300 none does but in one of 30,000 runs.
pub const RETRIES: u32 = 9;

/// A port of a host, which is an address on one machine, and a name among containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// An IP address or a name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// The place `host:port`.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip().to_string(), address.port())
    }
}

/// Where the ends of all connections are, as whoever connects to them says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddresses {
    /// Where the sidecar of each service takes requests for it.
    pub inbound: BTreeMap<&'static str, HostPort>,
    /// The services themselves.
    pub services: BTreeMap<&'static str, HostPort>,
}

/// Where one Envoy itself listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyAddresses {
    /// Its admin interface.
    pub admin: HostPort,
    /// For requests of others.
    pub inbound: HostPort,
    /// For requests of its own service, which only a makes.
    pub outbound: HostPort,
}

/// What an Envoy's statistics leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatsFilter {
    /// Nothing.
    #[default]
    All,
    /// All but what the panels and the claims read.
    Needed,
}

/// The statistics that [`StatsFilter::Needed`] keeps: begins of names as Envoy writes them in `/stats`.
pub const NEEDED_STATS: [&str; 12] = [
    "http.in.downstream_cx_active",
    "http.in.downstream_rq_",
    "http.out.downstream_cx_active",
    "http.out.downstream_rq_",
    "cluster.a.upstream_cx_active",
    "cluster.a.upstream_rq",
    "cluster.b.upstream_cx_active",
    "cluster.b.upstream_rq",
    "cluster.c.upstream_cx_active",
    "cluster.c.upstream_rq",
    "cluster.local.upstream_cx_active",
    "cluster.local.upstream_rq",
];

/// Whom a service calls.
pub fn calls(service: &str) -> &'static [&'static str] {
    if service == "a" { &["b", "c"] } else { &[] }
}

/// Where a service calls another: at its own sidecar, which knows by the path whom it means.
pub fn sidecar_uri(addresses: &EnvoyAddresses, service: &str) -> String {
    format!("http://{}:{}/{service}", addresses.outbound.host, addresses.outbound.port)
}

/// The configuration of one Envoy, as JSON, which is YAML too.
///
/// # Panics
/// If `name` is none of [`ENVOYS`], or a place is missing.
pub fn envoy(name: &str, addresses: &EnvoyAddresses, peers: &PeerAddresses, filter: StatsFilter) -> String {
    let to = |service: &str| cluster(service, &peers.inbound[service]);
    let inbound = |cluster: &str| listener("in", &addresses.inbound, &[("/", cluster, 0)]);
    let (listeners, clusters) = match name {
        "front" => (vec![inbound("a")], vec![to("a")]),
        "a" => (
            vec![
                inbound("local"),
                listener("out", &addresses.outbound, &[("/b", "b", 0), ("/c", "c", RETRIES)]),
            ],
            vec![cluster("local", &peers.services["a"]), to("b"), to("c")],
        ),
        other => (vec![inbound("local")], vec![cluster("local", &peers.services[other])]),
    };
    let mut config = json!({
        "node": { "id": name, "cluster": "demo1" },
        "admin": { "address": address(&addresses.admin) },
        // Histograms are added up at each flush, 5 s apart unless said: a scrape would see them late.
        "stats_flush_interval": "0.1s",
        "static_resources": { "listeners": listeners, "clusters": clusters },
    });
    if filter == StatsFilter::Needed {
        let patterns: Vec<Value> = NEEDED_STATS.iter().map(|prefix| json!({ "prefix": prefix })).collect();
        config["stats_config"] = json!({ "stats_matcher": { "inclusion_list": { "patterns": patterns } } });
    }
    config.to_string()
}

pub(crate) fn address(at: &HostPort) -> Value {
    json!({ "socket_address": { "address": at.host, "port_value": at.port } })
}

/// A listener whose routes are path prefixes: prefix, cluster, how often a failed request is tried again.
pub(crate) fn listener(name: &str, at: &HostPort, routes: &[(&str, &str, u32)]) -> Value {
    let routes: Vec<Value> = routes
        .iter()
        .map(|(prefix, cluster, retries)| {
            let mut route = json!({ "cluster": cluster, "timeout": "30s" });
            if *retries > 0 {
                route["retry_policy"] = json!({
                    "retry_on": "5xx",
                    "num_retries": retries,
                    "retry_back_off": { "base_interval": "0.005s", "max_interval": "0.02s" },
                });
            }
            json!({ "match": { "prefix": prefix }, "route": route })
        })
        .collect();
    json!({
        "name": name,
        "address": address(at),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                }],
                // Whoever comes first makes the id of the request; the others keep it.
                "preserve_external_request_id": true,
                "route_config": {
                    "name": name,
                    "virtual_hosts": [{ "name": name, "domains": ["*"], "routes": routes }],
                },
            },
        }] }],
    })
}

/// A cluster of one endpoint.
pub(crate) fn cluster(name: &str, at: &HostPort) -> Value {
    let kind = if at.host.parse::<IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" };
    json!({
        "name": name,
        "type": kind,
        "connect_timeout": "1s",
        // A retry storm would trip the default of 3 concurrent retries, and hide what is to be seen.
        "circuit_breakers": { "thresholds": [{ "max_retries": 100 }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(at) } }] }],
        },
    })
}
