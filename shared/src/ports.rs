//! The lab ports: what `--stay`, the compose files and the READMEs name. Everything else binds port 0.
//!
//! One block of ten for each demo, so that all of them can stay up side by side. The range lies below
//! the ephemeral ports of Linux (32768 and up), so that no outgoing connection takes one by chance.

/// Demo 3: Envoy's listener.
pub const DEMO3_ENVOY: u16 = 13000;
/// Demo 3: Envoy's admin interface.
pub const DEMO3_ADMIN: u16 = 13001;
/// Demo 3: the control plane (xDS over gRPC).
pub const DEMO3_XDS: u16 = 13002;
/// Demo 3: the control plane's admin interface (HTTP).
pub const DEMO3_CONTROL: u16 = 13003;

/// Demo 4: Envoy's listener, where a client calls the echo service.
pub const DEMO4_ENVOY: u16 = 14000;
/// Demo 4: Envoy's admin interface.
pub const DEMO4_ADMIN: u16 = 14001;
/// Demo 4: the control plane (xDS over gRPC).
pub const DEMO4_XDS: u16 = 14002;
