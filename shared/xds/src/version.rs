//! The version of a resource, or of a set of resources.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

/// A version: a hash of content, so that it is the same after a restart and on every server.
///
/// Versions of single resources add up to the version of a set, in any order, so that a stream can
/// keep the version of what its client holds without looking at all of it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of the empty set.
    pub const NONE: Self = Self(0);

    pub(crate) fn from_hash(hash: u64) -> Self {
        Self(hash)
    }

    /// This set's version with one more resource in it.
    #[must_use]
    pub fn with(self, one: Self) -> Self {
        Self(self.0.wrapping_add(one.0))
    }

    /// This set's version without one of its resources.
    #[must_use]
    pub fn without(self, one: Self) -> Self {
        Self(self.0.wrapping_sub(one.0))
    }

    /// A version that changes if this one or `salt` changes.
    #[must_use]
    pub fn with_salt(self, salt: Self) -> Self {
        let mut hash = Xxh3::with_seed(salt.0);
        hash.update(&self.0.to_le_bytes());
        Self(hash.digest())
    }

    /// Whether `text` is this version as it is written on the wire. Does not allocate.
    pub fn is_text(self, text: &str) -> bool {
        text.len() == 16 && u64::from_str_radix(text, 16) == Ok(self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
