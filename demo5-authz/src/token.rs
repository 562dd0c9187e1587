//! Bearer tokens: what makes one believed, and why one is not.
//!
//! ```text
//! token ──> short enough? ──> seen before? ──yes──> still valid? ──> Verified
//!                                │ no                                   ^
//!                                └─> kid -> one of our keys ──> signature, iss, aud ──> exp, nbf ──> remembered
//! ```
//!
//! The algorithm comes from **our key**, never from the token: a token that names another one is refused, and so
//! `alg: none` and a public key used as an HMAC secret are no special cases. Knows nothing of HTTP, of roles' meaning, or
//! of the clock: the time is an argument. What a token says is in [`claims`](crate::claims).
//!
//! Sources: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (best current practices).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Validation, decode, decode_header};

use crate::cache::TokenCache;
use crate::claims::{Claims, VerifiedToken};
use crate::jwks::{Jwks, Key};

/// The longest token that is looked at, in bytes. Ours have about 300.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Who issues tokens for whom, and how far clocks may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationParams {
    /// The issuer.
    pub issuer: String,
    /// Us.
    pub audience: String,
    /// How far the issuer's clock may be from ours.
    pub skew: Duration,
}

impl Default for ValidationParams {
    fn default() -> Self {
        Self {
            issuer: "https://issuer.demo5.example".to_owned(),
            audience: "greeter".to_owned(),
            skew: Duration::from_secs(5),
        }
    }
}

/// Why a token is not believed. For people: a caller is told only that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is longer than any of ours.
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// It is not three parts of base64url, or what they hold is not what a token of ours has.
    #[error("it is no token, or not one of our kind")]
    Malformed,
    /// Its header names an algorithm that the key is not for; `none` is one of them.
    #[error("its algorithm is not the one of our key")]
    AlgorithmMismatch,
    /// Its header has `crit`: it asks for something that we do not know.
    #[error("it demands an extension that is not known here")]
    UnsupportedCritical,
    /// It does not say which key signed it.
    #[error("it names no key")]
    MissingKeyId,
    /// It names a key that is none of ours.
    #[error("it names a key that is not ours")]
    UnknownKeyId,
    /// Somebody else signed it, or it was changed.
    #[error("the signature is not that of our key")]
    InvalidSignature,
    /// Somebody else issued it.
    #[error("it has another issuer")]
    WrongIssuer,
    /// It is for somebody else.
    #[error("it is for another audience")]
    WrongAudience,
    /// It is not valid yet.
    #[error("it is not valid yet")]
    NotYetValid,
    /// It is not valid any more.
    #[error("it has expired")]
    Expired,
}

impl TokenError {
    /// A short stable name, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLong => "token_too_long",
            Self::Malformed => "token_malformed",
            Self::AlgorithmMismatch => "token_algorithm",
            Self::UnsupportedCritical => "token_critical",
            Self::MissingKeyId => "token_no_key_id",
            Self::UnknownKeyId => "token_unknown_key_id",
            Self::InvalidSignature => "token_signature",
            Self::WrongIssuer => "token_issuer",
            Self::WrongAudience => "token_audience",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Expired => "token_expired",
        }
    }
}

/// Verifies tokens with one set of keys, and remembers those that were good.
///
/// The memory belongs to the keys: a new set of keys is a new verifier, so that a token whose key was withdrawn
/// is not believed from memory.
#[derive(Debug)]
pub struct Verifier {
    keys: Jwks,
    expected: ValidationParams,
    cache: TokenCache,
}

impl Verifier {
    /// A verifier that has seen no token yet.
    pub fn new(keys: Jwks, expected: ValidationParams) -> Self {
        Self { keys, expected, cache: TokenCache::default() }
    }

    /// How many of the tokens asked about were remembered, and how many were verified anew.
    pub fn cache(&self) -> &TokenCache {
        &self.cache
    }

    /// Who the token is about, if it is to be believed at this time.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(&self, token: &[u8], now: SystemTime) -> Result<VerifiedToken, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Some(verified) = self.cache.get(token) {
            self.check_validity(&verified, now)?;
            return Ok(verified);
        }
        let header = decode_header(token).map_err(|error| header_error(&error))?;
        // RFC 7515 4.1.11: what it names must be understood, and we understand none.
        if header.crit.is_some() || header.extras.inner().contains_key("b64") {
            return Err(TokenError::UnsupportedCritical);
        }
        let key =
            self.keys.get(&header.kid.ok_or(TokenError::MissingKeyId)?).ok_or(TokenError::UnknownKeyId)?;
        let claims = decode::<Claims>(token, key.decoding_key(), &self.validation(key));
        let claims = claims.map_err(|error| claims_error(&error))?.claims;
        if claims.invalid_name().is_some() {
            return Err(TokenError::Malformed);
        }
        let verified = VerifiedToken::new(&claims);
        self.check_validity(&verified, now)?;
        self.cache.insert(token, verified.clone());
        Ok(verified)
    }

    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm());
        validation.set_audience(&[&self.expected.audience]);
        validation.set_issuer(&[&self.expected.issuer]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "nbf", "exp"]);
        // Both are checked by `check_validity`, which a remembered token has to pass too, and which is given the time.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    }

    /// RFC 7519 4.1.4 and 4.1.5: valid from `nbf` on, and before `exp`, give or take the skew.
    fn check_validity(&self, verified: &VerifiedToken, now: u64) -> Result<(), TokenError> {
        let (from, until) = verified.validity();
        let skew = self.expected.skew.as_secs();
        if now.saturating_add(skew) < from {
            Err(TokenError::NotYetValid)
        } else if now >= until.saturating_add(skew) {
            Err(TokenError::Expired)
        } else {
            Ok(())
        }
    }
}

/// Why a header cannot be read. An algorithm that the library does not know, such as `none`, fails as JSON.
fn header_error(error: &Error) -> TokenError {
    match error.kind() {
        ErrorKind::Json(json) if json.to_string().contains("unknown variant") => {
            TokenError::AlgorithmMismatch
        }
        _ => TokenError::Malformed,
    }
}

fn claims_error(error: &Error) -> TokenError {
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::InvalidSignature,
        ErrorKind::InvalidAlgorithm => TokenError::AlgorithmMismatch,
        ErrorKind::InvalidIssuer => TokenError::WrongIssuer,
        ErrorKind::InvalidAudience => TokenError::WrongAudience,
        _ => TokenError::Malformed,
    }
}
