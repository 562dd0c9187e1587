//! What can go wrong before anybody is asked to trust anything.

use super::{BadName, PemError};

/// Why a certificate or key cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A certificate that is never valid, or at times that it cannot write down.
    #[error("no certificate can have this validity ({why}): choose other times")]
    BadValidity {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A certificate would still be valid when the one that vouches for it no longer is.
    #[error(
        "it would be valid until {not_after}, but {issuer:?}, which vouches for it, only until {issuer_not_after}: \
         choose a shorter life, or make a new issuer"
    )]
    OutlivesIssuer {
        /// When it would expire.
        not_after: String,
        /// Who would issue it.
        issuer: String,
        /// When that one expires.
        issuer_not_after: String,
    },
    /// A leaf that speaks for nobody.
    #[error("a leaf needs a name: give a DNS name (--dns), an address (--ip) or a SPIFFE ID (--spiffe)")]
    NoNames,
    /// A name that cannot stand in a certificate.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// An authority's name is empty or too long for the field that it stands in.
    #[error(
        "an authority's name has 1 to 64 characters, none of them a control character: choose another one"
    )]
    AuthorityName,
    /// The file with certificates is not as it has to be.
    #[error(transparent)]
    Certificates(#[from] PemError),
    /// The file with the private key is not as it has to be.
    #[error("the private key: {0}")]
    Key(#[source] PemError),
    /// The armour is whole, but the key in it is not, or no TLS library knows its kind.
    #[error(
        "the private key cannot be used: it is damaged, or neither RSA (2048 bits or more) nor ECDSA (P-256, P-384) \
         nor Ed25519; make a new one"
    )]
    KeyRefused,
    /// A key and a certificate of different pairs.
    #[error(
        "the private key does not belong to the certificate of {subject:?}: take the two files that were made together"
    )]
    KeyDoesNotFit {
        /// Whose certificate.
        subject: String,
    },
    /// A certificate that vouches for nobody, where one that does is needed.
    #[error(
        "the certificate of {subject:?} is no authority's: take root.pem, not the certificate of a server or client"
    )]
    NotAnAuthority {
        /// Whose certificate.
        subject: String,
    },
    /// The library that writes certificates refused, or the system has no randomness.
    #[error("a key or certificate could not be made ({why})")]
    Make {
        /// What it said.
        why: String,
    },
}

impl PkiError {
    /// For `map_err`: rcgen's errors hold nothing of a key.
    #[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
    pub(super) fn generation_error(error: rcgen::Error) -> Self {
        Self::Make { why: error.to_string() }
    }
}
