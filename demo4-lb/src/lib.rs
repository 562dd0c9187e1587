//! gRPC load balancing that a control plane decides and Envoy carries out.

pub mod backend;

pub mod caller;
