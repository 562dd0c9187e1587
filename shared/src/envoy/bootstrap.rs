//! What Envoy must know before it can ask a control plane for everything else.
//!
//! Pure: values in, text out. The text is JSON, which is YAML too; Envoy takes it by `--config-yaml`. Each part names the
//! message of Envoy's API that it becomes; all of them are fields of
//! [`Bootstrap`](https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/bootstrap/v3/bootstrap.proto).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

/// The name of the one static cluster: the control plane itself.
pub const XDS_CLUSTER: &str = "xds";

/// How the control plane talks: everything anew at each change, or only what changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnvoyXdsVariant {
    /// State of the world: each response carries all resources of its type.
    #[default]
    Sotw,
    /// Incremental: each response carries what changed and what went.
    Delta,
}

impl EnvoyXdsVariant {
    /// The name in `ApiConfigSource.ApiType`.
    fn api_type(self) -> &'static str {
        match self {
            Self::Sotw => "GRPC",
            Self::Delta => "DELTA_GRPC",
        }
    }
}

/// An Envoy that learns all its clusters and listeners over one ADS stream.
///
/// ```
/// use std::time::Duration;
/// use shared::envoy::{Bootstrap, EnvoyXdsVariant};
///
/// let control_plane = "127.0.0.1:18000".parse()?;
/// let yaml = Bootstrap::new("edge-1", control_plane)
///     .cluster("edge")
///     .variant(EnvoyXdsVariant::Delta)
///     .initial_fetch_timeout(Duration::from_secs(2))
///     .to_yaml();
/// assert!(yaml.contains("DELTA_GRPC"));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    id: String,
    cluster: String,
    control_plane: SocketAddr,
    admin: SocketAddr,
    variant: EnvoyXdsVariant,
    initial_fetch_timeout: Duration,
    load_reports: bool,
}

impl Bootstrap {
    /// Node `id`, which asks the control plane at this address, by state of the world. The admin interface
    /// takes a free port of 127.0.0.1.
    pub fn new(id: impl Into<String>, control_plane: SocketAddr) -> Self {
        Self {
            id: id.into(),
            cluster: "mesh".to_owned(),
            control_plane,
            admin: (Ipv4Addr::LOCALHOST, 0).into(),
            variant: EnvoyXdsVariant::default(),
            initial_fetch_timeout: Duration::from_secs(15),
            load_reports: false,
        }
    }

    /// The node's cluster: the group of Envoys that it belongs to. `mesh` unless set.
    #[must_use]
    pub fn cluster(mut self, cluster: impl Into<String>) -> Self {
        self.cluster = cluster.into();
        self
    }

    /// Where the admin interface listens. It has no access control: whoever reaches it can stop Envoy.
    #[must_use]
    pub fn admin(mut self, address: SocketAddr) -> Self {
        self.admin = address;
        self
    }

    /// How the control plane talks.
    #[must_use]
    pub fn variant(mut self, variant: EnvoyXdsVariant) -> Self {
        self.variant = variant;
        self
    }

    /// How long a start waits for the first clusters, and again for the first listeners, before it goes on
    /// without; zero waits for ever. 15 s, which is Envoy's own default, unless set.
    #[must_use]
    pub fn initial_fetch_timeout(mut self, limit: Duration) -> Self {
        self.initial_fetch_timeout = limit;
        self
    }

    /// Whether Envoy also reports load to the control plane (LRS). A cluster's `lrs_server` alone does not make it.
    #[must_use]
    pub fn load_reports(mut self, report: bool) -> Self {
        self.load_reports = report;
        self
    }

    /// The text for Envoy's `--config-yaml`.
    pub fn to_yaml(&self) -> String {
        let mut bootstrap = json!({
            "node": { "id": self.id, "cluster": self.cluster },
            "admin": { "address": socket(self.admin) },
            "static_resources": { "clusters": [self.xds_cluster()] },
            "dynamic_resources": {
                "ads_config": {
                    "api_type": self.variant.api_type(),
                    "transport_api_version": "V3",
                    // Once a stream is enough: the node is 30 KB, most of it a list of extensions.
                    "set_node_on_first_message_only": true,
                    "grpc_services": [self.ads_service()],
                },
                "cds_config": self.over_ads(),
                "lds_config": self.over_ads(),
            },
            "overload_manager": overload_manager(),
        });
        if self.load_reports {
            bootstrap["cluster_manager"] = json!({
                "load_stats_config": {
                    "api_type": "GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{ "envoy_grpc": { "cluster_name": XDS_CLUSTER } }],
                },
            });
        }
        bootstrap.to_string()
    }

    /// `ConfigSource`: ask for these resources on the one ADS stream.
    fn over_ads(&self) -> Value {
        json!({
            "ads": {},
            "resource_api_version": "V3",
            "initial_fetch_timeout": duration(self.initial_fetch_timeout),
        })
    }

    /// `GrpcService` of the ADS stream. Left alone, Envoy doubles the wait between two tries from 0.5 s up to 30 s:
    /// a control plane that was away for 6 s is found again 6 to 8 s after its return. Like this it
    /// is found within a second. For a lab's handful of Envoys; thousands would storm their control plane.
    fn ads_service(&self) -> Value {
        json!({
            "envoy_grpc": {
                "cluster_name": XDS_CLUSTER,
                "retry_policy": {
                    "retry_back_off": { "base_interval": "0.1s", "max_interval": "1s" },
                },
            },
        })
    }

    /// `Cluster` of the control plane: static, since nobody else could tell where it is.
    fn xds_cluster(&self) -> Value {
        const HTTP: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        json!({
            "name": XDS_CLUSTER,
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                HTTP: {
                    "@type": format!("type.googleapis.com/{HTTP}"),
                    "explicit_http_config": {
                        "http2_protocol_options": {
                            // A control plane that vanished without a word is noticed by its silence.
                            "connection_keepalive": { "interval": "10s", "timeout": "5s" },
                        },
                    },
                },
            },
            "load_assignment": {
                "cluster_name": XDS_CLUSTER,
                "endpoints": [{
                    "lb_endpoints": [{ "endpoint": { "address": socket(self.control_plane) } }],
                }],
            },
        })
    }
}

/// Without a limit of connections Envoy warns at each start that it has none. This one is out of a lab's reach.
fn overload_manager() -> Value {
    json!({
        "resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/\
                    envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": 50_000,
            },
        }],
    })
}

/// `Address`.
fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// `google.protobuf.Duration` in its JSON form.
fn duration(duration: Duration) -> String {
    format!("{}.{:09}s", duration.as_secs(), duration.subsec_nanos())
}
