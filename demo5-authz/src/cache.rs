//! Tokens that were verified a moment ago: their hashes, and who they are about.
//!
//! Verifying a signature costs more than all the rest of a check. A caller shows the same token again and
//! again, so the result is remembered, by a hash that nobody can aim at (SHA-256): no token is kept in memory.
//! Bounded; the one not used for longest goes first. Only good tokens get in, so a stranger cannot empty it.
//! Whether a remembered token is still valid is for the caller to ask, each time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use sha2::{Digest, Sha256};

use crate::token::Verified;

/// The most tokens that are remembered: about 4 MB.
pub const MOST: usize = 10_000;

/// The verified tokens.
#[derive(Debug)]
pub struct Cache {
    known: Mutex<LruCache<[u8; 32], Arc<Verified>>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Default for Cache {
    fn default() -> Self {
        // Grows as it fills.
        let known = LruCache::unbounded();
        Self { known: Mutex::new(known), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }
}

impl Cache {
    /// Who this token is about, if it is known.
    pub fn get(&self, token: &[u8]) -> Option<Arc<Verified>> {
        let hash = hash(token);
        let found = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Remembers a token that was verified.
    pub fn put(&self, token: &[u8], verified: Arc<Verified>) {
        let hash = hash(token);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(hash, verified);
        if known.len() > MOST {
            known.pop_lru();
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a token was known, and how often not.
    pub fn looked_up(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}
