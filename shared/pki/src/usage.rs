//! What a leaf may be used for.

use std::fmt;
use std::str::FromStr;

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};

/// Which end of a connection a leaf may prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Only a server's.
    Server,
    /// Only a client's.
    Client,
    /// Both: a mesh's proxy is a server to some and a client to others.
    Both,
}

impl Usage {
    /// The extended key usage that says so.
    pub(super) fn purposes(self) -> Vec<ExtendedKeyUsagePurpose> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        match self {
            Self::Server => vec![ServerAuth],
            Self::Client => vec![ClientAuth],
            Self::Both => vec![ServerAuth, ClientAuth],
        }
    }

    /// The key usage of a leaf, whichever end it proves: it signs handshakes.
    pub(super) const KEY_USAGE: KeyUsagePurpose = KeyUsagePurpose::DigitalSignature;

    /// Their names on a command line.
    pub const NAMES: [&str; 3] = ["server", "client", "both"];
}

/// A name that is not in [`Usage::NAMES`].
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a usage: write server, client or both")]
pub struct UnknownUsage(String);

impl FromStr for Usage {
    type Err = UnknownUsage;

    fn from_str(text: &str) -> Result<Self, UnknownUsage> {
        match text {
            "server" => Ok(Self::Server),
            "client" => Ok(Self::Client),
            "both" => Ok(Self::Both),
            _ => Err(UnknownUsage(text.to_owned())),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Both => "server and client",
        })
    }
}
