//! TLS from PEM: for rustls itself, and for gRPC by tonic; with client certificates both ways.
//!
//! ```text
//! Credentials (chain + its key, checked to fit) ──┐
//! Roots (whom to trust) ──────────────────────────┴─> server(), client(): rustls
//!                                                 └─> grpc_server(), grpc_client(): tonic
//! ```
//!
//! TLS 1.2 and 1.3, one crypto library (ring), and no way to switch verification off.
//! Knows nothing of who issued what: that is the rest of this crate. tonic needs the feature `grpc`.

#[cfg(feature = "grpc")]
mod grpc;

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};

#[cfg(feature = "grpc")]
pub use grpc::{GrpcClientTls, grpc_client, grpc_server};

use crate::{Certificate, Issued, KeyPem, PemError, PkiError, Roots};

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The chain cannot be read.
    #[error("the certificate chain: {0}")]
    Chain(#[from] PemError),
    /// The first certificate is an authority's.
    #[error(
        "the chain begins with an authority's certificate ({subject:?}): put the leaf first, as chain.pem has it"
    )]
    NotALeaf {
        /// Whose certificate.
        subject: String,
    },
    /// The key cannot be read, or does not belong to the chain's first certificate.
    #[error(transparent)]
    Key(#[from] PkiError),
    /// rustls refuses the configuration.
    #[error("TLS cannot be set up with these certificates ({0}): show them with `pki show`")]
    Rejected(String),
    /// A gRPC client was to use TLS, but its address says plain text.
    #[cfg(feature = "grpc")]
    #[error("{uri} would be called without TLS, whatever the configuration says: write https://")]
    NotHttps {
        /// The address.
        uri: String,
    },
    /// tonic refuses the configuration.
    #[cfg(feature = "grpc")]
    #[error("gRPC cannot use this TLS configuration")]
    Grpc(#[source] tonic::transport::Error),
}

/// A certificate chain and the key that belongs to it.
#[derive(Clone)]
pub struct Credentials {
    certified: Arc<CertifiedKey>,
    #[cfg(feature = "grpc")]
    chain_pem: String,
    #[cfg(feature = "grpc")]
    key: KeyPem,
}

impl Credentials {
    /// Reads a chain (the leaf first) and checks that the key is the leaf's.
    ///
    /// # Errors
    /// [`TlsError::Chain`], [`TlsError::NotALeaf`], or [`TlsError::Key`].
    pub fn from_pem(chain_pem: &str, key: &KeyPem) -> Result<Self, TlsError> {
        let chain = Certificate::read_pem(chain_pem)?;
        let subject = chain.first().map(|leaf| leaf.subject().to_owned()).unwrap_or_default();
        if chain.first().is_some_and(Certificate::is_authority) {
            return Err(TlsError::NotALeaf { subject });
        }
        let chain = chain.iter().map(|one| one.der().clone()).collect();
        let certified = CertifiedKey::from_der(chain, key.der()?, &provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Key(PkiError::KeyDoesNotFit { subject })
            }
            other => rejected(&other),
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            #[cfg(feature = "grpc")]
            chain_pem: chain_pem.to_owned(),
            #[cfg(feature = "grpc")]
            key: key.clone(),
        })
    }
}

impl TryFrom<&Issued> for Credentials {
    type Error = TlsError;

    fn try_from(issued: &Issued) -> Result<Self, TlsError> {
        Self::from_pem(&issued.chain_pem, &issued.key_pem)
    }
}

/// Shows nothing: who wants to see certificates has the files, and a key is not for showing.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// What is spoken inside of TLS, as both sides agree on it in the handshake (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2 where the peer knows it, else HTTP/1.1.
    Any,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        let (http1, http2) = (b"http/1.1".to_vec(), b"h2".to_vec());
        match self {
            Self::Http1 => vec![http1],
            Self::Http2 => vec![http2],
            Self::Any => vec![http2, http1],
        }
    }
}

/// The crypto library that all TLS here uses.
pub fn provider() -> Arc<CryptoProvider> {
    crate::provider::provider()
}

/// A server's side. With `clients`, it answers only clients with a certificate that those vouch for.
///
/// # Errors
/// [`TlsError::Rejected`].
pub fn server(
    credentials: &Credentials,
    clients: Option<&Roots>,
    alpn: Alpn,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| rejected(&error))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store(roots)?), provider());
            builder.with_client_cert_verifier(verifier.build().map_err(|error| rejected(&error))?)
        }
    };
    let resolver = rustls::sign::SingleCertAndKey::from(Arc::clone(&credentials.certified));
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = alpn.protocols();
    Ok(config)
}

/// A client's side: trusts servers that `roots` vouch for, and shows `credentials` to those that ask.
///
/// # Errors
/// [`TlsError::Rejected`].
pub fn client(
    roots: &Roots,
    credentials: Option<&Credentials>,
    alpn: Alpn,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| rejected(&error))?
        .with_root_certificates(store(roots)?);
    let mut config = match credentials {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let resolver = rustls::sign::SingleCertAndKey::from(Arc::clone(&own.certified));
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
    };
    config.alpn_protocols = alpn.protocols();
    Ok(config)
}

fn store(roots: &Roots) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots.certificates() {
        store.add(root.der().clone()).map_err(|error| rejected(&error))?;
    }
    Ok(store)
}

fn rejected(error: &impl ToString) -> TlsError {
    TlsError::Rejected(error.to_string())
}
