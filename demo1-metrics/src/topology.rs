//! The world as data: who calls whom, through which Envoy, at which port.
//!
//! ```text
//!   load ──> front ──> [a: in] ──> A ──> [a: out] ──/b──> [b: in] ──> B
//!                                                └──/c──> [c: in] ──> C
//! ```
//!
//! `[x: in]` and `[x: out]` are two listeners of one Envoy, x's sidecar. Knows no process, and nothing of metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

/// The services.
pub const SERVICES: [&str; 3] = ["a", "b", "c"];

/// The Envoys: one in front, and one beside each service.
pub const ENVOYS: [&str; 4] = ["front", "a", "b", "c"];

/// Who calls whom, as `envoy -> cluster`: the Envoy that counts the edge, and its name for the other end.
pub const EDGES: [(&str, &str); 3] = [("front", "a"), ("a", "b"), ("a", "c")];

/// How often a's sidecar tries a failed call of C again.
pub const RETRIES: u32 = 5;

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Where the front Envoy listens.
    pub front: SocketAddr,
    /// Where the sidecar of each service takes requests for it.
    pub inbound: BTreeMap<&'static str, SocketAddr>,
    /// Where a's sidecar takes a's own requests.
    pub outbound: SocketAddr,
    /// The services themselves.
    pub services: BTreeMap<&'static str, SocketAddr>,
}

/// What an Envoy's statistics leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    #[default]
    All,
    /// All but what the panels and the claims read.
    Needed,
}

/// The statistics that [`Keep::Needed`] keeps: begins of names as Envoy writes them in `/stats`.
pub const NEEDED: [&str; 8] = [
    "http.in.downstream_rq_",
    "http.out.downstream_rq_",
    "http.in.downstream_cx_active",
    "cluster.a.upstream_rq",
    "cluster.b.upstream_rq",
    "cluster.c.upstream_rq",
    "cluster.local.upstream_rq",
    "server.live",
];

/// The configuration of one Envoy, as JSON, which is YAML too.
///
/// # Panics
/// If `name` is none of [`ENVOYS`], or a place is missing.
pub fn envoy(name: &str, admin: SocketAddr, places: &Places, keep: Keep) -> String {
    let (listeners, clusters) = match name {
        "front" => {
            (vec![listener("in", places.front, &[("/", "a", 0)])], vec![cluster("a", places.inbound["a"])])
        }
        "a" => (
            vec![
                listener("in", places.inbound["a"], &[("/", "local", 0)]),
                listener("out", places.outbound, &[("/b", "b", 0), ("/c", "c", RETRIES)]),
            ],
            vec![
                cluster("local", places.services["a"]),
                cluster("b", places.inbound["b"]),
                cluster("c", places.inbound["c"]),
            ],
        ),
        other => (
            vec![listener("in", places.inbound[other], &[("/", "local", 0)])],
            vec![cluster("local", places.services[other])],
        ),
    };
    let mut config = json!({
        "node": { "id": name, "cluster": "demo1" },
        "admin": { "address": address(admin) },
        // Histograms are added up at each flush, 5 s apart unless said: a scrape would see them late.
        "stats_flush_interval": "0.1s",
        "static_resources": { "listeners": listeners, "clusters": clusters },
    });
    if keep == Keep::Needed {
        let patterns: Vec<Value> = NEEDED.iter().map(|prefix| json!({ "prefix": prefix })).collect();
        config["stats_config"] = json!({ "stats_matcher": { "inclusion_list": { "patterns": patterns } } });
    }
    config.to_string()
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}

/// A listener whose routes are path prefixes: prefix, cluster, how often a failed request is tried again.
fn listener(name: &str, at: SocketAddr, routes: &[(&str, &str, u32)]) -> Value {
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

fn cluster(name: &str, at: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        // A retry storm would trip the default of 3 concurrent retries, and hide what is to be seen.
        "circuit_breakers": { "thresholds": [{ "max_retries": 100 }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(at) } }] }],
        },
    })
}
