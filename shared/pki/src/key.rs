//! Private keys: made, read, and never shown by accident.

use std::fmt;

use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls::pki_types::PrivateKeyDer;
use zeroize::{Zeroize, Zeroizing};

use super::pem;
use super::{Certificate, PkiError};

/// A private key as PEM. Debug shows nothing of it, there is no Display, and this copy is wiped from memory when it goes.
#[derive(Clone)]
pub struct KeyPem(Zeroizing<String>);

impl KeyPem {
    /// Reads the one private key in `pem`: PKCS#8, PKCS#1 (RSA) or SEC1 (elliptic curve), not encrypted.
    ///
    /// # Errors
    /// [`PkiError::Key`] says in which line what is wrong, [`PkiError::KeyRefused`] that the key makes no
    /// sense or is of a kind that TLS does not know. Neither quotes from the file.
    pub fn parse(pem: impl AsRef<[u8]>) -> Result<Self, PkiError> {
        let pem = pem.as_ref();
        let section = pem::one(pem, pem::PRIVATE_KEYS).map_err(PkiError::Key)?;
        let key = private_key(&section)?;
        if crate::provider::provider().key_provider.load_private_key(key).is_err() {
            return Err(PkiError::KeyRefused);
        }
        let text = std::str::from_utf8(section.text).map_err(|_| PkiError::KeyRefused)?;
        // Only the key's own section: a comment beside it is nobody's business.
        Ok(Self(Zeroizing::new(format!("{}\n", text.trim_end()))))
    }

    /// The PEM text, for a file of mode 0600 or a secret that is sent to a proxy, and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key for TLS.
    pub(crate) fn der(&self) -> Result<PrivateKeyDer<'static>, PkiError> {
        let section = pem::one(self.0.as_bytes(), pem::PRIVATE_KEYS).map_err(PkiError::Key)?;
        private_key(&section)
    }
}

impl fmt::Debug for KeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPem(not shown)")
    }
}

fn private_key(section: &pem::Section<'_>) -> Result<PrivateKeyDer<'static>, PkiError> {
    let der = section.der.to_vec();
    Ok(match section.label.as_str() {
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    })
}

/// A key that signs, for rcgen; wiped from memory when it goes.
pub(super) struct SecretKey(KeyPair);

impl SecretKey {
    /// Makes a new one: elliptic curve P-256, which is small, made in a moment, and known to every TLS library.
    pub(super) fn generate() -> Result<Self, PkiError> {
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map(Self).map_err(PkiError::generation_error)
    }

    /// The key of an authority that is opened again; it has to be the one that `certificate` names.
    pub(super) fn of(certificate: &Certificate, pem: &KeyPem) -> Result<Self, PkiError> {
        let key = KeyPair::try_from(&pem.der()?).map_err(|_| PkiError::KeyRefused)?;
        let key = Self(key);
        if certificate.public_key() == key.0.subject_public_key_info() {
            Ok(key)
        } else {
            Err(PkiError::KeyDoesNotFit { subject: certificate.subject().to_owned() })
        }
    }

    /// As PEM (PKCS#8).
    pub(super) fn pem(&self) -> KeyPem {
        KeyPem(Zeroizing::new(self.0.serialize_pem()))
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for SecretKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for SecretKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}
