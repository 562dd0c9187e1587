//! The demo's chain of trust: a root that is used once, an intermediate for a day, leaves for an hour.
//!
//! ```text
//! root ──signs──> intermediate ──signs──> leaf, leaf, leaf …
//!  │ its key is gone after that             with the name that clients call
//!  └ its certificate is what clients trust
//! ```
//!
//! All of it lives in memory for as long as the demo runs; no key is written anywhere.

use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::topology::{Certificate, HOST};

/// How far certificates reach back, for clients whose clock is slow.
const SKEW: Duration = Duration::minutes(5);

/// A root's certificate, and the intermediate that issues leaves.
pub struct Trust {
    root: CertificateDer<'static>,
    intermediate: Issuer<'static, KeyPair>,
    intermediate_pem: String,
}

/// A leaf, ready to be shown.
pub struct Issued {
    /// Its chain and its key.
    pub certificate: Certificate,
    /// Its serial number, in hexadecimal.
    pub serial: String,
}

impl Trust {
    /// Makes a root of this name and lets it sign one intermediate; the root's key is gone when this returns.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let root_key = KeyPair::generate().context("no key for the root")?;
        let mut root = params(&format!("{name} root"), Duration::days(3650));
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_certificate = root.self_signed(&root_key)?;
        let root_issuer = Issuer::new(root, root_key);

        let key = KeyPair::generate().context("no key for the intermediate")?;
        let mut intermediate = params(&format!("{name} intermediate"), Duration::days(1));
        // It may sign leaves, and no further authority.
        intermediate.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        intermediate.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let signed = intermediate.signed_by(&key, &root_issuer)?;
        Ok(Self {
            root: root_certificate.der().clone(),
            intermediate_pem: signed.pem(),
            intermediate: Issuer::new(intermediate, key),
        })
    }

    /// Issues a certificate for servers named [`HOST`].
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn issue(&self) -> anyhow::Result<Issued> {
        let key = KeyPair::generate().context("no key for a leaf")?;
        let mut leaf = params(HOST, Duration::hours(1));
        leaf.subject_alt_names = vec![rcgen::SanType::DnsName(HOST.try_into()?)];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let signed = leaf.signed_by(&key, &self.intermediate)?;
        Ok(Issued {
            serial: serial(signed.der())?,
            certificate: Certificate {
                chain_pem: signed.pem() + &self.intermediate_pem,
                key_pem: key.serialize_pem(),
            },
        })
    }

    /// TLS for a client that trusts this root, and nothing else.
    ///
    /// # Errors
    /// If the root is none; it is ours, so only a defect brings one.
    pub fn trusting(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// A certificate's serial number, in hexadecimal.
///
/// # Errors
/// If the bytes are no certificate.
pub fn serial(certificate: &CertificateDer<'_>) -> anyhow::Result<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).context("this is no certificate")?;
    Ok(certificate.tbs_certificate.serial.to_str_radix(16))
}

fn params(name: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - SKEW, now + life);
    params
}
