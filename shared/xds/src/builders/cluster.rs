//! Clusters and their endpoints.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::{
    cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
    },
    core::v3::{Http2ProtocolOptions, Locality},
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
    },
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
    },
};
use envoy_types::pb::google::protobuf::UInt32Value;
use envoy_types::util::pack_any;

use super::common::{address, ads, seconds};

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
        // Both gRPC and Envoy reject an EDS cluster without a source for its endpoints.
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

/// Backends of one locality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalityEndpoints {
    /// The locality's `region`.
    pub region: String,
    /// Its share of the calls, relative to the other localities of the same priority. At least 1.
    pub weight: u32,
    /// 0 is the highest priority; there must be no gap.
    pub priority: u32,
    /// The backends.
    pub addresses: Vec<SocketAddr>,
}

/// The endpoints of a cluster.
pub fn endpoints(cluster: &str, localities: &[LocalityEndpoints]) -> ClusterLoadAssignment {
    let locality = |place: &LocalityEndpoints| LocalityLbEndpoints {
        // gRPC rejects endpoints without a locality, and ignores a locality without a weight.
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
