//! Whom we trust to begin with.

use std::time::SystemTime;

use super::{Certificate, PkiError};

/// The authorities that are trusted for themselves, because somebody put their certificates here.
#[derive(Clone, Debug)]
pub struct Roots {
    certificates: Vec<Certificate>,
    pem: String,
}

impl Roots {
    /// Reads them; there has to be one, and each has to be an authority's.
    ///
    /// # Errors
    /// [`PkiError::Certificates`] or [`PkiError::NotAnAuthority`].
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, PkiError> {
        let certificates = Certificate::read_pem(pem)?;
        if let Some(leaf) = certificates.iter().find(|certificate| !certificate.is_authority()) {
            return Err(PkiError::NotAnAuthority { subject: leaf.subject().to_owned() });
        }
        // Written anew, so that what we hand on (to tonic) holds the certificates and nothing else.
        let pem = certificates.iter().map(|certificate| super::pem::pem_of(certificate.der())).collect();
        Ok(Self { certificates, pem })
    }

    /// The certificates.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The certificates, one at least.
    pub(super) fn into_certificates(self) -> Vec<Certificate> {
        self.certificates
    }

    /// The certificates as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The root with this subject and public key: one that counts at this time, if there are several.
    pub(super) fn of(&self, is: impl Fn(&Certificate) -> bool, at: SystemTime) -> Option<&Certificate> {
        let mut same: Vec<_> = self.certificates.iter().filter(|root| is(root)).collect();
        // A root is renewed with the same name and key; the old certificate may still lie beside the new one.
        same.sort_by_key(|root| !root.validity().contains(at));
        same.first().copied()
    }
}
