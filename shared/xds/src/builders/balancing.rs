//! How a cluster handles localities and unhealthy backends, in addition to what [`cluster`](super::cluster()) sets.
//!
//! All of this is for Envoy. gRPC clients differ in what they support; the clients that the demos use ignore it.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster, OutlierDetection,
    cluster::{
        CommonLbConfig,
        common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig},
    },
};
use envoy_types::pb::envoy::config::core::v3::{
    HealthCheck,
    health_check::{GrpcHealthCheck, HealthChecker},
};
use envoy_types::pb::google::protobuf::UInt32Value;

use super::common::seconds;

/// Splits the calls by the weights of the localities. Without it Envoy ignores localities, and each gets calls in
/// proportion to the number of its endpoints.
///
/// Source: ["Locality weighted load
/// balancing"](https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/load_balancing/locality_weight).
#[must_use]
pub fn with_locality_weights(mut cluster: Cluster) -> Cluster {
    let by_weight = LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig::default());
    let common = cluster.common_lb_config.get_or_insert_with(CommonLbConfig::default);
    common.locality_config_specifier = Some(by_weight);
    cluster
}

/// Makes Envoy check the gRPC health of every endpoint once per `interval`. An endpoint that does not answer SERVING
/// twice in a row is unhealthy until it answers SERVING once.
///
/// Source: ["Health checking"](https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/health_checking).
#[must_use]
pub fn with_health_checks(mut cluster: Cluster, interval: Duration) -> Cluster {
    let number = |value| Some(UInt32Value { value });
    cluster.health_checks.push(HealthCheck {
        timeout: Some(seconds(Duration::from_secs(1))),
        interval: Some(seconds(interval)),
        // By default Envoy checks a cluster without calls only once a minute. The health of a standby matters too.
        no_traffic_interval: Some(seconds(interval)),
        unhealthy_threshold: number(2),
        healthy_threshold: number(1),
        health_checker: Some(HealthChecker::GrpcHealthCheck(GrpcHealthCheck::default())),
        ..HealthCheck::default()
    });
    // A removed backend was drained: Envoy must not keep it because it is still healthy.
    cluster.ignore_health_on_host_removal = true;
    apply_health_changes_immediately(cluster)
}

/// Makes Envoy apply health changes immediately. By default its load balancer sees them a second later
/// (`update_merge_window`), which saves work in a fleet of thousands of endpoints.
fn apply_health_changes_immediately(mut cluster: Cluster) -> Cluster {
    let common = cluster.common_lb_config.get_or_insert_with(CommonLbConfig::default);
    common.update_merge_window = Some(seconds(Duration::ZERO));
    cluster
}

/// Makes Envoy eject an endpoint for `ejection_time` after `failures` failed calls in a row (a gRPC status such as
/// UNAVAILABLE counts as the HTTP status that it maps to), longer each time; at most half of the endpoints.
///
/// Source: ["Outlier
/// detection"](https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/outlier).
#[must_use]
pub fn with_outlier_detection(mut cluster: Cluster, failures: u32, ejection_time: Duration) -> Cluster {
    let number = |value| Some(UInt32Value { value });
    cluster.outlier_detection = Some(OutlierDetection {
        consecutive_5xx: number(failures),
        // Only that: the statistical detectors need more calls and hosts than a demo has.
        enforcing_success_rate: number(0),
        enforcing_consecutive_gateway_failure: number(0),
        // How often Envoy checks ejected endpoints; it bounds how late they are readmitted.
        interval: Some(seconds(Duration::from_millis(100))),
        base_ejection_time: Some(seconds(ejection_time)),
        max_ejection_percent: number(50),
        ..OutlierDetection::default()
    });
    apply_health_changes_immediately(cluster)
}
