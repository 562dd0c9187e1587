//! How much one server gives to all of its peers, and to each of them.

use std::time::Duration;

/// The limits of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. Further ones wait in the kernel's backlog until one of them closes.
    pub connections: usize,
    /// How many connections the kernel's backlog holds. The usual 128 overflow when a fleet reconnects after a restart,
    /// and a client whose connection is dropped retries only a second later.
    pub backlog: i32,
    /// How long a peer may take until it has sent the first [`first_bytes`](Self::first_bytes).
    pub handshake: Duration,
    /// How many bytes a peer has to send within [`handshake`](Self::handshake). The HTTP/2 connection preface has 24, and
    /// a TLS client's first message is longer. 0 for a server that closes idle connections itself.
    pub first_bytes: usize,
    /// Open streams on one HTTP/2 connection. A client that needs more opens another connection, or waits.
    pub streams: u32,
    /// How often an HTTP/2 connection is checked with a PING.
    pub keepalive_interval: Duration,
    /// How long the answer to that PING may take.
    pub keepalive_timeout: Duration,
}

impl Limits {
    /// Limits for a server with up to a thousand peers.
    pub const DEFAULT: Self = Self {
        connections: 1024,
        backlog: 4096,
        handshake: Duration::from_secs(10),
        first_bytes: 24,
        streams: 1000,
        keepalive_interval: Duration::from_secs(20),
        keepalive_timeout: Duration::from_secs(20),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
