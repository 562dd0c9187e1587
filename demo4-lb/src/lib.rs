//! gRPC load balancing that a control plane decides and Envoy carries out.
