//! Builders: resources with the fields that every client demands. Everything else is left to Envoy's API.
//!
//! Each function returns the plain message of Envoy's API, which the caller may change before it becomes a
//! [`Resource`](crate::Resource). A comment beside each field says who demands it: Envoy and the gRPC clients reject
//! different omissions, and some omissions are accepted and do not work.

mod common;

mod cluster;

mod balancing;

mod route;

mod listener;

pub use balancing::{with_health_checks, with_locality_weights, with_outlier_detection};
pub use cluster::{LocalityEndpoints, cluster, endpoints};
pub use common::{address, ads};
pub use listener::{api_listener, listener, secret, unknown_filter, with_tls};
pub use route::{route, weighted_route, with_retries};
