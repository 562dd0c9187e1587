//! What a leaf may be used for.

use std::fmt;

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};

use super::KeyKind;

/// Which end of a connection a leaf may prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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

    /// The key usage of a leaf: it signs handshakes. An RSA server may also be sent a key encrypted to it, by
    /// old clients of TLS 1.2; an elliptic curve key has no such use.
    pub(super) fn key_usages(self, kind: KeyKind) -> Vec<KeyUsagePurpose> {
        match (kind, self) {
            (KeyKind::Rsa2048, Self::Server | Self::Both) => {
                vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment]
            }
            _ => vec![KeyUsagePurpose::DigitalSignature],
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
