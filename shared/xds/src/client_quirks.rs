//! How a client reads the protocol differently from the spec.

/// What the server knows about a client apart from its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientQuirks {
    /// Whether an empty list of names in the first request subscribes to every resource. gRPC clients never mean that.
    pub legacy_wildcard: bool,
}

impl Default for ClientQuirks {
    fn default() -> Self {
        Self { legacy_wildcard: true }
    }
}
