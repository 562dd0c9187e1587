//! What a token says, before and after it is verified. Does not know how a token is verified.
//!
//! Source: RFC 7519 (JWT).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The maximum number of roles in one token.
pub const MAX_ROLES: usize = 16;

/// The claims of a token (RFC 7519, section 4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// Who it is for.
    pub aud: Audience,
    /// Who it identifies.
    pub sub: String,
    /// The roles of the subject.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The time from which it is valid, in seconds since 1970.
    pub nbf: u64,
    /// The time at which it expires, in seconds since 1970.
    pub exp: u64,
}

impl Claims {
    /// Returns the first name or role that is rejected even in a signed token, if there is one.
    pub fn invalid_name(&self) -> Option<&str> {
        let names = std::iter::once(&self.sub).chain(self.roles.iter().take(MAX_ROLES));
        let invalid = names.map(String::as_str).find(|name| !is_valid_name(name));
        invalid.or_else(|| self.roles.get(MAX_ROLES).map(String::as_str))
    }
}

/// Who a token is for: one audience, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Multiple(Vec<String>),
}

/// The subject, the roles and the lifetime of a verified token, without the token itself. The cache keeps thousands of these,
/// so each is small, and clones share the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The subject and then the roles, separated by commas. No name contains a comma.
    names: Arc<str>,
    validity: (u64, u64),
}

impl VerifiedToken {
    /// Keeps what is needed of these claims.
    pub(crate) fn new(claims: &Claims) -> Self {
        let roles = claims.roles.iter().flat_map(|role| [",", role]);
        let names: String = std::iter::once(claims.sub.as_str()).chain(roles).collect();
        Self { names: names.into(), validity: (claims.nbf, claims.exp) }
    }

    /// Returns the subject.
    pub fn subject(&self) -> &str {
        self.names.split(',').next().unwrap_or_default()
    }

    /// Returns the roles.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.names.split(',').skip(1)
    }

    /// Returns `nbf` and `exp`: the seconds since 1970 from which and until which the token is valid.
    pub(crate) fn validity(&self) -> (u64, u64) {
        self.validity
    }
}

/// Returns whether the text can stand in a header's value, alone or in a list separated by commas. A name with a line break
/// would let the issuer add a header.
fn is_valid_name(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}
