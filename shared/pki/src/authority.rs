//! Those who vouch: a root for an intermediate, an intermediate for leaves.

use std::fmt;
use std::time::SystemTime;

use rcgen::Issuer;

use super::key::SecretKey;
use super::pem::pem_of;
use super::template;
use super::validity::utc;
use super::{Certificate, KeyPem, Names, PkiError, Roots, Serial, Usage, Validity};

/// The authority that clients know. It signs one intermediate, and is gone with its key.
///
/// That is the offline root in small: a key that no longer exists on the machine cannot be taken from it.
pub struct Root(Authority);

impl Root {
    /// Makes a root that vouches for itself and may have one level of authorities below it.
    ///
    /// # Errors
    /// [`PkiError::AuthorityName`], [`PkiError::BadValidity`], or [`PkiError::Make`].
    pub fn generate(name: &str, validity: Validity) -> Result<Self, PkiError> {
        let params = template::authority(name, validity, 1)?;
        let key = SecretKey::generate()?;
        let made = params.self_signed(&key).map_err(PkiError::generation_error)?;
        Ok(Self(Authority { certificate: read(made.der())?, issuer: Issuer::new(params, key) }))
    }

    /// Opens a root whose key was kept, to sign another intermediate.
    ///
    /// # Errors
    /// [`PkiError::NotAnAuthority`] for a certificate that is none's, [`PkiError::KeyDoesNotFit`] for another
    /// one's key, and what the files are read with.
    pub fn open(pem: impl AsRef<[u8]>, key: &KeyPem) -> Result<Self, PkiError> {
        let pem = super::pem::one(pem.as_ref(), super::pem::CERTIFICATES)?.text;
        let mut roots = Roots::from_pem(pem)?.into_certificates();
        let certificate = roots.swap_remove(0);
        let key = SecretKey::of(&certificate, key)?;
        let issuer = Issuer::from_ca_cert_der(certificate.der(), key).map_err(PkiError::generation_error)?;
        Ok(Self(Authority { certificate, issuer }))
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.0.certificate
    }

    /// Its certificate as PEM, for everybody who is to trust it.
    pub fn pem(&self) -> String {
        pem_of(self.0.certificate.der())
    }

    /// A copy of its key, for a place that is safer than this machine.
    pub fn key_pem(&self) -> KeyPem {
        self.0.issuer.key().pem()
    }

    /// Signs an intermediate that may issue leaves but no further authorities, and ends the root: there is
    /// no key left to steal.
    ///
    /// # Errors
    /// As [`generate`](Self::generate), and [`PkiError::OutlivesIssuer`].
    pub fn sign_intermediate(self, name: &str, validity: Validity) -> Result<Intermediate, PkiError> {
        self.0.check_validity(validity)?;
        let mut params = template::authority(name, validity, 0)?;
        // Whoever takes its key can make servers and clients, but sign no programs and no mail.
        params.extended_key_usages = Usage::Both.purposes();
        let key = SecretKey::generate()?;
        let made = params.signed_by(&key, &self.0.issuer).map_err(PkiError::generation_error)?;
        Ok(Intermediate {
            root: self.0.certificate,
            authority: Authority { certificate: read(made.der())?, issuer: Issuer::new(params, key) },
        })
    }
}

/// The authority that works: it issues leaves on demand, and lives for days or weeks.
pub struct Intermediate {
    root: Certificate,
    authority: Authority,
}

impl Intermediate {
    /// Issues a leaf with a new key.
    ///
    /// # Errors
    /// [`PkiError::NoNames`], [`PkiError::OutlivesIssuer`], or [`PkiError::Make`].
    pub fn issue(&self, names: &Names, usage: Usage, validity: Validity) -> Result<Issued, PkiError> {
        if names.is_empty() {
            return Err(PkiError::NoNames);
        }
        self.authority.check_validity(validity)?;
        let params = template::leaf(names, usage, validity)?;
        let key = SecretKey::generate()?;
        let made = params.signed_by(&key, &self.authority.issuer).map_err(PkiError::generation_error)?;
        let leaf = read(made.der())?;
        let leaf_pem = pem_of(leaf.der());
        Ok(Issued {
            chain_pem: leaf_pem.clone() + &self.pem(),
            leaf_pem,
            key_pem: key.pem(),
            serial: leaf.serial().clone(),
            not_after: leaf.validity().not_after(),
        })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.authority.certificate
    }

    /// Its certificate as PEM; it is in every chain that it issues.
    pub fn pem(&self) -> String {
        pem_of(self.authority.certificate.der())
    }

    /// The root's certificate.
    pub fn root(&self) -> &Certificate {
        &self.root
    }

    /// The root's certificate as PEM, for everybody who is to trust the leaves.
    pub fn root_pem(&self) -> String {
        pem_of(self.root.der())
    }
}

/// A leaf with its key, as it was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The leaf and the intermediate, in the order in which TLS sends them; the root is not in it, since
    /// whoever trusts it has it.
    pub chain_pem: String,
    /// The leaf alone.
    pub leaf_pem: String,
    /// Its private key.
    pub key_pem: KeyPem,
    /// Its number.
    pub serial: Serial,
    /// Its last second.
    pub not_after: SystemTime,
}

/// What both kinds of authorities are made of.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, SecretKey>,
}

impl Authority {
    /// Refuses a certificate that would end later than ours: it would fail before its time, and where
    /// nobody expects it.
    fn check_validity(&self, validity: Validity) -> Result<(), PkiError> {
        let ours = self.certificate.validity().not_after();
        if validity.not_after() <= ours {
            return Ok(());
        }
        Err(PkiError::OutlivesIssuer {
            not_after: utc(validity.not_after()),
            issuer: self.certificate.subject().to_owned(),
            issuer_not_after: utc(ours),
        })
    }
}

/// Shows the certificate only.
impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("subject", &self.0.certificate.subject()).finish_non_exhaustive()
    }
}

/// Shows the certificate only.
impl fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.authority.certificate.subject();
        f.debug_struct("Intermediate").field("subject", &subject).finish_non_exhaustive()
    }
}

/// Reads what was just made: there is one reader, and it has to agree.
fn read(der: &rustls::pki_types::CertificateDer<'static>) -> Result<Certificate, PkiError> {
    Certificate::from_der(der.clone()).map_err(|why| PkiError::Make { why })
}
