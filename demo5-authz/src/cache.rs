//! Tokens that were verified a moment ago: their hashes, and who they are about.
//!
//! Verifying a signature costs more than all the rest of a check. A caller shows the same token again and
//! again, so the result is remembered, by a hash that nobody can aim at (SHA-256): no token is kept in memory.
//! Bounded; the one not used for longest goes first. Only good tokens get in, so a stranger cannot empty it.
//! Whether a remembered token is still valid is for the caller to ask, each time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use schnellru::{ByLength, LruMap};

use crate::claims::VerifiedToken;

/// The most tokens that are remembered: about 0.8 MB, if names are as short as ours and roles as few.
pub const CAPACITY: u32 = 7_000;

/// The first half of a token's SHA-256: to find another token with the same 128 bits takes 2^128 attempts.
type Hash = [u8; 16];

/// The verified tokens.
pub struct TokenCache {
    entries: Mutex<LruMap<Hash, VerifiedToken>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Default for TokenCache {
    fn default() -> Self {
        // Grows as it fills.
        let entries = LruMap::new(ByLength::new(CAPACITY));
        Self { entries: Mutex::new(entries), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }
}

impl TokenCache {
    /// Who this token is about, if it is known.
    pub fn get(&self, token: &[u8]) -> Option<VerifiedToken> {
        let hash = hash(token);
        let found = self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Remembers a token that was verified.
    pub fn insert(&self, token: &[u8], verified: VerifiedToken) {
        let hash = hash(token);
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, verified);
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a token was known, and how often not.
    pub fn lookups(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

/// Shows how many, and nobody's name.
impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("tokens", &self.len()).finish_non_exhaustive()
    }
}

fn hash(token: &[u8]) -> Hash {
    let mut half = Hash::default();
    half.copy_from_slice(&digest(&SHA256, token).as_ref()[..16]);
    half
}
