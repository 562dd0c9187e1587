//! How tokens are signed, and how signatures are verified: Ed25519 by ed25519-dalek, which knows a bad key when it sees one,
//! all else by ring, which is fast.
//!
//! Knows algorithms and keys. Does not know tokens.

use ed25519_dalek::{Signature, VerifyingKey};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::jwk::ThumbprintHash;
use jsonwebtoken::signature::{Error, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use ring::agreement::{self, ECDH_P256, EphemeralPrivateKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, UnparsedPublicKey,
};
use ring::{digest, hmac};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // The others read keys of kinds that are not used here.
    key_utils: KeyUtils { compute_digest: thumbprint, ..KeyUtils::new_unimplemented() },
};

/// Makes the library sign and verify like this, in all of this process. To be called by whatever uses the library first;
/// again does no harm.
pub(crate) fn install_provider() {
    // An error says that there is one already.
    _ = PROVIDER.install_default();
}

/// Whether this can be a key for this algorithm at all: its length is right, its point is on the curve, and there is a secret
/// behind it.
pub(crate) fn is_valid_key(algorithm: Algorithm, key: &DecodingKey) -> bool {
    let Ok(bytes) = key.try_get_as_bytes() else { return false };
    match algorithm {
        // A weak one is a point of small order, for which anybody can make signatures.
        Algorithm::EdDSA => ed25519(bytes).is_ok_and(|key| !key.is_weak()),
        Algorithm::ES256 => is_on_p256(bytes),
        _ => false,
    }
}

/// 32 bytes that are a point.
fn ed25519(bytes: &[u8]) -> Result<VerifyingKey> {
    let bytes = bytes.try_into().map_err(|_| ErrorKind::InvalidEddsaKey)?;
    Ok(VerifyingKey::from_bytes(bytes).map_err(|_| ErrorKind::InvalidEddsaKey)?)
}

/// Whether these are a byte that says "both coordinates", and those of a point on the curve. ring has nothing that only looks,
/// but agrees on a secret with no other.
fn is_on_p256(bytes: &[u8]) -> bool {
    let peer_key = agreement::UnparsedPublicKey::new(&ECDH_P256, bytes);
    EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())
        .is_ok_and(|own_key| agreement::agree_ephemeral(own_key, &peer_key, |_| ()).is_ok())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    match (algorithm, key.family()) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => Ok(Box::new(Eddsa(ed25519(key.try_get_as_bytes()?)?))),
        (Algorithm::ES256, AlgorithmFamily::Ec) => {
            let key = key.try_get_as_bytes()?.to_vec();
            Ok(Box::new(Es256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key))))
        }
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

/// Ed25519 (RFC 8037 3.1).
struct Eddsa(VerifyingKey);

impl Verifier<Vec<u8>> for Eddsa {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.0.verify_strict(message, &Signature::from_slice(signature)?)
    }
}

impl JwtVerifier for Eddsa {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
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

/// A key that signs, of a kind that the story needs; HS256 is what forgers use.
enum SigningKey {
    Eddsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Hs256(hmac::Key),
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    let bytes = key.as_bytes();
    let signing_key = match (algorithm, key.family()) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => SigningKey::Eddsa(
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map_err(|_| ErrorKind::InvalidEddsaKey)?,
        ),
        (Algorithm::ES256, AlgorithmFamily::Ec) => SigningKey::Es256(
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes, &SystemRandom::new())
                .map_err(|_| ErrorKind::InvalidEcdsaKey)?,
        ),
        (Algorithm::HS256, AlgorithmFamily::Hmac) => {
            SigningKey::Hs256(hmac::Key::new(hmac::HMAC_SHA256, bytes))
        }
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(signing_key))
}

impl Signer<Vec<u8>> for SigningKey {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        Ok(match self {
            Self::Eddsa(key) => key.sign(message).as_ref().to_vec(),
            Self::Es256(key) => {
                let signature = key.sign(&SystemRandom::new(), message).map_err(|_| Error::new())?;
                signature.as_ref().to_vec()
            }
            Self::Hs256(key) => hmac::sign(key, message).as_ref().to_vec(),
        })
    }
}

impl JwtSigner for SigningKey {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Eddsa(_) => Algorithm::EdDSA,
            Self::Es256(_) => Algorithm::ES256,
            Self::Hs256(_) => Algorithm::HS256,
        }
    }
}

/// The hash that a key's id is made of (RFC 7638).
#[allow(clippy::needless_pass_by_value, reason = "the library asks for this signature")]
fn thumbprint(bytes: &[u8], hash: ThumbprintHash) -> Result<Vec<u8>> {
    match hash {
        ThumbprintHash::SHA256 => Ok(digest::digest(&digest::SHA256, bytes).as_ref().to_vec()),
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}
