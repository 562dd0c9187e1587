//! The other side of tokens: a key that signs them, and its public half as a JWKS.
//!
//! In earnest an identity provider is this. Here it serves the story, the tests and `demo5-token`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData};
use zeroize::Zeroizing;

use crate::claims::{Audience, Claims};
use crate::crypto;
use crate::token::ValidationParams;

/// How tokens are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyType {
    /// Ed25519
    #[default]
    Eddsa,
    /// ECDSA with P-256 and SHA-256
    Es256,
}

/// Why there is no issuer, or no token.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The text is no key that can sign.
    #[error("not a private key for Ed25519 or P-256 in PEM: make one with `demo5-token keygen`")]
    Key,
    /// The library refuses.
    #[error("cannot sign")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Somebody who signs tokens.
pub struct Issuer {
    pair: KeyPair,
    encoding: EncodingKey,
    algorithm: Algorithm,
    public: Jwk,
}

impl Issuer {
    /// One with a new key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate(key_type: KeyType) -> Result<Self, IssuerError> {
        let algorithm = match key_type {
            KeyType::Eddsa => &PKCS_ED25519,
            KeyType::Es256 => &PKCS_ECDSA_P256_SHA256,
        };
        Self::from_key_pair(KeyPair::generate_for(algorithm).map_err(|_| IssuerError::Key)?)
    }

    /// The one whose key is in this PEM text.
    ///
    /// # Errors
    /// [`IssuerError::Key`]
    pub fn from_pem(pem: &str) -> Result<Self, IssuerError> {
        Self::from_key_pair(KeyPair::from_pem(pem).map_err(|_| IssuerError::Key)?)
    }

    fn from_key_pair(pair: KeyPair) -> Result<Self, IssuerError> {
        crypto::install_provider();
        let private = Zeroizing::new(pair.serialize_der());
        let raw = pair.der_bytes();
        let (algorithm, encoding, decoding) = if pair.is_compatible(&PKCS_ED25519) {
            (Algorithm::EdDSA, EncodingKey::from_ed_der(&private), DecodingKey::from_ed_der(raw))
        } else if pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            (Algorithm::ES256, EncodingKey::from_ec_der(&private), DecodingKey::from_ec_der(raw))
        } else {
            return Err(IssuerError::Key);
        };
        let mut public = Jwk::from_decoding_key(&decoding, Some(algorithm))?;
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        // RFC 7638: the same key has the same id wherever it is written down.
        public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256)?);
        Ok(Self { pair, encoding, algorithm, public })
    }

    /// The private key as PEM, for a file of mode 0600 and nowhere else.
    pub fn private_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.pair.serialize_pem())
    }

    /// The public key as a JWKS.
    pub fn jwks(&self) -> String {
        jwks([self])
    }

    /// The id of the key.
    pub fn key_id(&self) -> &str {
        self.public.common.key_id.as_deref().unwrap_or_default()
    }

    /// The bytes of the public key, which are no secret.
    pub fn public_bytes(&self) -> &[u8] {
        self.pair.der_bytes()
    }

    /// The header that our tokens have.
    pub fn header(&self) -> Header {
        Header { kid: self.public.common.key_id.clone(), ..Header::new(self.algorithm) }
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// [`IssuerError::Sign`]
    pub fn sign(&self, claims: &impl serde::Serialize) -> Result<String, IssuerError> {
        self.sign_with_header(&self.header(), claims)
    }

    /// A token with these claims and this header, which may be one that nobody should believe.
    ///
    /// # Errors
    /// [`IssuerError::Sign`], also if the header's algorithm is not the key's.
    pub fn sign_with_header(
        &self,
        header: &Header,
        claims: &impl serde::Serialize,
    ) -> Result<String, IssuerError> {
        Ok(encode(header, claims, &self.encoding)?)
    }
}

/// Shows which key, and nothing of it.
impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

/// The public keys of all of them.
pub fn jwks<'a>(issuers: impl IntoIterator<Item = &'a Issuer>) -> String {
    let keys = issuers.into_iter().map(|issuer| issuer.public.clone()).collect();
    // A set of keys has a JSON form.
    serde_json::to_string_pretty(&JwkSet { keys }).unwrap_or_default() + "\n"
}

impl Claims {
    /// What a token says of `subject` that is valid from now on, for so long.
    pub fn new(expected: &ValidationParams, subject: &str, roles: &[&str], lifetime: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            iss: expected.issuer.clone(),
            aud: Audience::One(expected.audience.clone()),
            sub: subject.to_owned(),
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            nbf: now,
            exp: now.saturating_add(lifetime.as_secs()),
        }
    }
}
