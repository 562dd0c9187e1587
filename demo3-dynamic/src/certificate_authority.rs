//! The demo's chain of trust: a root that is used once, an intermediate for a day, leaves for an hour.
//!
//! ```text
//! root ──signs──> intermediate ──signs──> leaf, leaf, leaf …
//!  │ its key is gone after that             with the name that clients call
//!  └ its certificate is what clients trust
//! ```
//!
//! All of it lives in memory for as long as the demo runs; no key is written anywhere. How a chain is made
//! and checked is in [`mesh_pki`].

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mesh_pki::tls::{self, Alpn};
use mesh_pki::{Certificate, Intermediate, Issued, Names, Root, Roots, Usage, Validity};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::topology::HOST_NAME;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An intermediate that issues leaves, and the root that clients trust.
pub struct CertificateAuthority(Intermediate);

impl CertificateAuthority {
    /// Makes a root of this name and lets it sign one intermediate; the root's key is gone when this returns.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let root = Root::generate(&format!("{name} root"), Validity::from_now(3650 * DAY)?)?;
        Ok(Self(root.sign_intermediate(&format!("{name} intermediate"), Validity::from_now(DAY)?)?))
    }

    /// Issues a certificate for servers named [`HOST_NAME`].
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn issue(&self) -> anyhow::Result<Issued> {
        let names = Names::default().dns(HOST_NAME)?;
        Ok(self.0.issue(&names, Usage::Server, Validity::from_now(HOUR)?)?)
    }

    /// Returns the TLS configuration of a client that trusts only this root.
    ///
    /// # Errors
    /// If the root is none; it is ours, so only a defect brings one.
    pub fn client_config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let roots = Roots::from_pem(self.0.root_pem())?;
        Ok(Arc::new(tls::client(&roots, None, Alpn::Http1)?))
    }
}

/// The serial number of a certificate that was shown in a handshake.
///
/// # Errors
/// If the bytes are no certificate.
pub fn serial(certificate: &CertificateDer<'_>) -> anyhow::Result<String> {
    let certificate = Certificate::read_der(certificate).context("the server showed something else")?;
    Ok(certificate.serial().to_string())
}
