//! The two variants of the xDS transport protocol.
//!
//! Spec: ["Variants of the xDS Transport
//! Protocol"](https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#variants-of-the-xds-transport-protocol).

use std::fmt;
use std::str::FromStr;

/// How requests and responses of a stream describe what a client wants and has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XdsVariant {
    /// State of the world: each request lists every name, each response of a root type every resource.
    Sotw,
    /// Incremental: requests and responses carry only what changed.
    Delta,
}

/// A name that is not in [`XdsVariant::NAMES`].
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a variant of the xDS protocol: write sotw or delta")]
pub struct UnknownVariant(String);

impl XdsVariant {
    /// The names on a command line, in the order of the variants.
    pub const NAMES: [&str; 2] = ["sotw", "delta"];
}

impl fmt::Display for XdsVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

impl FromStr for XdsVariant {
    type Err = UnknownVariant;

    fn from_str(text: &str) -> Result<Self, UnknownVariant> {
        match text {
            "sotw" => Ok(Self::Sotw),
            "delta" => Ok(Self::Delta),
            _ => Err(UnknownVariant(text.to_owned())),
        }
    }
}
