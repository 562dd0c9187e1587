//! TLS for tonic's servers and clients.

use std::fmt;

use rustls::crypto::CryptoProvider;
use tonic::transport::{self, ClientTlsConfig, Endpoint, ServerTlsConfig};

use super::{Credentials, TlsError};
use crate::Roots;

/// A gRPC server's side, for [`tonic::transport::Server::tls_config`]; with `clients`, mutual.
pub fn grpc_server(credentials: &Credentials, clients: Option<&Roots>) -> ServerTlsConfig {
    // tonic takes the process's choice of crypto library. Where one was made already, it stays.
    _ = CryptoProvider::install_default(rustls::crypto::ring::default_provider());
    let config = ServerTlsConfig::new().identity(credentials.for_tonic());
    match clients {
        None => config,
        Some(roots) => config.client_ca_root(transport::Certificate::from_pem(roots.pem())),
    }
}

/// A gRPC client's side; with `credentials`, mutual.
pub fn grpc_client(roots: &Roots, credentials: Option<&Credentials>) -> GrpcClientTls {
    let config = ClientTlsConfig::new().ca_certificate(transport::Certificate::from_pem(roots.pem()));
    GrpcClientTls(match credentials {
        None => config,
        Some(own) => config.identity(own.for_tonic()),
    })
}

/// tonic's `ClientTlsConfig`, kept inside: its Debug would print the bytes of the private key.
#[derive(Clone)]
pub struct GrpcClientTls(ClientTlsConfig);

impl GrpcClientTls {
    /// Expects the server to have this name, whatever the address says.
    #[must_use]
    pub fn server_name(self, name: &str) -> Self {
        Self(self.0.domain_name(name))
    }

    /// Has `endpoint` use it.
    ///
    /// # Errors
    /// [`TlsError::NotHttps`], since tonic would use no TLS at all then; [`TlsError::Grpc`].
    pub fn secure(&self, endpoint: Endpoint) -> Result<Endpoint, TlsError> {
        if endpoint.uri().scheme_str() != Some("https") {
            return Err(TlsError::NotHttps { uri: endpoint.uri().to_string() });
        }
        endpoint.tls_config(self.0.clone()).map_err(TlsError::Grpc)
    }
}

impl fmt::Debug for GrpcClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcClientTls").finish_non_exhaustive()
    }
}

impl Credentials {
    fn for_tonic(&self) -> transport::Identity {
        transport::Identity::from_pem(&self.chain_pem, self.key.expose())
    }
}
