//! The public keys that tokens are verified with, from a JWKS file (RFC 7517).
//!
//! A set that exists is usable: every key was tried once, since a key of the wrong size must be an
//! error of its file, and not of the first caller. Knows nothing of files.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use crate::crypto;

/// The keys by their ids.
#[derive(Clone, Debug, Default)]
pub struct Jwks(HashMap<String, Key>);

/// A public key, and the one algorithm that it is for.
#[derive(Clone, Debug)]
pub struct Key {
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// Why a text gives no keys. None of them quotes the text: it may hold a private key by mistake.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// It is no JWKS.
    #[error("line {line}, column {column}: not a JSON object with a list of \"keys\"")]
    NotJwks {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// One of the keys is private.
    #[error(
        "keys[{number}] is a private or a secret key: only public ones belong here. Make a new pair, this one was shown"
    )]
    PrivateKey {
        /// Which.
        number: usize,
    },
    /// A key has no id, and could never be asked for.
    #[error("keys[{number}] has no \"kid\"")]
    MissingKeyId {
        /// Which.
        number: usize,
    },
    /// Two keys have one id.
    #[error("keys[{number}] has the \"kid\" of another one")]
    DuplicateKeyId {
        /// Which.
        number: usize,
    },
    /// The numbers of a key make no sense.
    #[error("keys[{number}] is no public key of its kind")]
    InvalidKey {
        /// Which.
        number: usize,
    },
    /// There is nothing to verify with.
    #[error("no key for EdDSA (Ed25519) or ES256 (P-256) among the \"keys\"")]
    Empty,
}

impl Jwks {
    /// Reads a JWKS. Keys of kinds that are not used here are left out, as RFC 7517 5 asks.
    ///
    /// # Errors
    /// [`JwksError`]
    pub fn parse(text: &str) -> Result<Self, JwksError> {
        crypto::install_provider();
        let not_jwks =
            |error: serde_json::Error| JwksError::NotJwks { line: error.line(), column: error.column() };
        let value: Value = serde_json::from_str(text).map_err(not_jwks)?;
        for (number, key) in value["keys"].as_array().into_iter().flatten().enumerate() {
            // "d" is the private part of every kind, "k" a symmetric key.
            if key.get("d").is_some() || key.get("k").is_some() {
                return Err(JwksError::PrivateKey { number });
            }
        }
        let set: JwkSet = serde_json::from_str(text).map_err(not_jwks)?;
        let mut keys = HashMap::new();
        for (number, jwk) in set.keys.iter().enumerate() {
            let Some(algorithm) = algorithm_of(jwk) else { continue };
            let id = jwk.common.key_id.clone().ok_or(JwksError::MissingKeyId { number })?;
            let key = Key::new(algorithm, jwk).ok_or(JwksError::InvalidKey { number })?;
            if keys.insert(id, key).is_some() {
                return Err(JwksError::DuplicateKeyId { number });
            }
        }
        if keys.is_empty() { Err(JwksError::Empty) } else { Ok(Self(keys)) }
    }

    /// The key with this id.
    pub fn get(&self, id: &str) -> Option<&Key> {
        self.0.get(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none; never so after [`parse`](Self::parse).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Key {
    fn new(algorithm: Algorithm, jwk: &Jwk) -> Option<Self> {
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        crypto::is_valid_key(algorithm, &decoding).then_some(Self { algorithm, decoding })
    }

    /// What it is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key, as the library takes it.
    pub fn decoding_key(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// What a key is for, by its curve; `None` if not for us.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    // Where the key says itself what it is for, that must agree.
    let matches = |stated: KeyAlgorithm| stated == KeyAlgorithm::from(algorithm);
    jwk.common.key_algorithm.is_none_or(matches).then_some(algorithm)
}
