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

use crate::cache::Cache;
use crate::claims::{Claims, Verified};
use crate::jwks::{Jwks, Key};

/// The longest token that is looked at, in bytes. Ours have about 300.
pub const LONGEST: usize = 8 * 1024;

/// Who issues tokens for whom, and how far clocks may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The issuer.
    pub issuer: String,
    /// Us.
    pub audience: String,
    /// How far the issuer's clock may be from ours.
    pub skew: Duration,
}

impl Default for Expected {
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
    #[error("the token is longer than {LONGEST} bytes")]
    TooLong,
    /// It is not three parts of base64url, or what they hold is not what a token of ours has.
    #[error("it is no token, or not one of our kind")]
    Malformed,
    /// Its header names an algorithm that the key is not for; `none` is one of them.
    #[error("its algorithm is not the one of our key")]
    Algorithm,
    /// Its header has `crit`: it asks for something that we do not know.
    #[error("it demands an extension that is not known here")]
    Critical,
    /// It does not say which key signed it.
    #[error("it names no key")]
    NoKey,
    /// It names a key that is none of ours.
    #[error("it names a key that is not ours")]
    UnknownKey,
    /// Somebody else signed it, or it was changed.
    #[error("the signature is not that of our key")]
    Signature,
    /// Somebody else issued it.
    #[error("it has another issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("it is for another audience")]
    Audience,
    /// It is not valid yet.
    #[error("it is not valid yet")]
    NotYet,
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
            Self::Algorithm => "token_algorithm",
            Self::Critical => "token_critical",
            Self::NoKey => "token_no_key",
            Self::UnknownKey => "token_unknown_key",
            Self::Signature => "token_signature",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::NotYet => "token_not_yet",
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
    expected: Expected,
    cache: Cache,
}

impl Verifier {
    /// A verifier that has seen no token yet.
    pub fn new(keys: Jwks, expected: Expected) -> Self {
        Self { keys, expected, cache: Cache::default() }
    }

    /// How many of the tokens asked about were remembered, and how many were verified anew.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Who the token is about, if it is to be believed at this time.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(&self, token: &[u8], now: SystemTime) -> Result<Verified, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::TooLong);
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Some(verified) = self.cache.get(token) {
            self.in_time(&verified, now)?;
            return Ok(verified);
        }
        let header = decode_header(token).map_err(|error| of_header(&error))?;
        // RFC 7515 4.1.11: what it names must be understood, and we understand none.
        if header.crit.is_some() || header.extras.inner().contains_key("b64") {
            return Err(TokenError::Critical);
        }
        let key = self.keys.find(&header.kid.ok_or(TokenError::NoKey)?).ok_or(TokenError::UnknownKey)?;
        let claims = decode::<Claims>(token, key.decoding(), &self.validation(key));
        let claims = claims.map_err(|error| of_claims(&error))?.claims;
        if claims.unusable().is_some() {
            return Err(TokenError::Malformed);
        }
        let verified = Verified::new(&claims);
        self.in_time(&verified, now)?;
        self.cache.put(token, verified.clone());
        Ok(verified)
    }

    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm());
        validation.set_audience(&[&self.expected.audience]);
        validation.set_issuer(&[&self.expected.issuer]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "nbf", "exp"]);
        // Both are checked by `in_time`, which a remembered token has to pass too, and which is given the time.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    }

    /// RFC 7519 4.1.4 and 4.1.5: valid from `nbf` on, and before `exp`, give or take the skew.
    fn in_time(&self, verified: &Verified, now: u64) -> Result<(), TokenError> {
        let (from, until) = verified.valid();
        let skew = self.expected.skew.as_secs();
        if now.saturating_add(skew) < from {
            Err(TokenError::NotYet)
        } else if now >= until.saturating_add(skew) {
            Err(TokenError::Expired)
        } else {
            Ok(())
        }
    }
}

/// Why a header cannot be read. An algorithm that the library does not know, such as `none`, fails as JSON.
fn of_header(error: &Error) -> TokenError {
    match error.kind() {
        ErrorKind::Json(json) if json.to_string().contains("unknown variant") => TokenError::Algorithm,
        _ => TokenError::Malformed,
    }
}

fn of_claims(error: &Error) -> TokenError {
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        _ => TokenError::Malformed,
    }
}
