//! gRPC load balancing that a control plane decides and Envoy carries out.

pub mod topology;

pub mod discovery;

pub mod control_plane;

pub mod backend;

pub mod caller;

pub mod scenario;
