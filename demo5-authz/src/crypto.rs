//! How signatures are verified: those of ES256 by ring, in a third of the time that the library's own way takes; all else
//! as the library does it.
//!
//! Knows algorithms and keys. Does not know tokens.

use std::sync::LazyLock;

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

static OURS: LazyLock<CryptoProvider> =
    LazyLock::new(|| CryptoProvider { verifier_factory: verifier, ..DEFAULT_PROVIDER.clone() });

/// Makes the library verify like this, in all of this process. To be called by whatever uses the library first; again
/// does no harm.
pub(crate) fn install() {
    // An error says that there is one already.
    _ = OURS.install_default();
}

/// Whether this can be a key for this algorithm at all: its length is right, and its point is on the curve.
pub(crate) fn is_key(algorithm: Algorithm, key: &DecodingKey) -> bool {
    // Ed25519: 32 bytes. P-256: a byte that says "both coordinates", and those. The library would take the first 32 of
    // more, and panic over fewer.
    let length = if algorithm == Algorithm::EdDSA { 32 } else { 65 };
    key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == length)
        && (DEFAULT_PROVIDER.verifier_factory)(&algorithm, key).is_ok()
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if *algorithm != Algorithm::ES256 {
        return (DEFAULT_PROVIDER.verifier_factory)(algorithm, key);
    }
    if key.family() != AlgorithmFamily::Ec {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let key = key.try_get_as_bytes()?;
    Ok(Box::new(Es256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.to_vec()))))
}

/// ECDSA with P-256 and SHA-256 (RFC 7518 3.4).
struct Es256(UnparsedPublicKey<Vec<u8>>);

impl Verifier<Vec<u8>> for Es256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.0.verify(message, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Es256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}
