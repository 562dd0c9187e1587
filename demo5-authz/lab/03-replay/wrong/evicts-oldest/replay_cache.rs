//! Tokens that were used, so that none is used twice.

use std::collections::HashMap;

/// The longest id that is remembered, in bytes.
const MAX_ID_BYTES: usize = 64;

/// Remembers the ids of used tokens.
#[derive(Debug, Default)]
pub struct ReplayCache {
    /// The most ids that may be remembered.
    capacity: usize,
    /// When their tokens expire, by id.
    expiry_by_id: HashMap<String, u64>,
    /// The latest time that was ever seen.
    latest: u64,
}

impl ReplayCache {
    /// Creates an empty cache for at most `capacity` ids.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Returns whether the token with the id `jti`, which is valid before `exp`, may be used `now`. Times are in seconds.
    pub fn accept(&mut self, jti: &str, exp: u64, now: u64) -> bool {
        // What was forgotten as expired must not be valid again because a clock was set back.
        self.latest = self.latest.max(now);
        let now = self.latest;
        if jti.is_empty() || jti.len() > MAX_ID_BYTES || now >= exp || self.expiry_by_id.contains_key(jti) {
            return false;
        }
        if self.expiry_by_id.len() >= self.capacity {
            self.expiry_by_id.retain(|_, exp| now < *exp);
        }
        if self.expiry_by_id.len() >= self.capacity {
            // Room for the new one: the one that expires first goes.
            let first = self.expiry_by_id.iter().min_by_key(|(_, exp)| **exp).map(|(jti, _)| jti.clone());
            self.expiry_by_id.remove(&first.unwrap_or_default());
        }
        self.expiry_by_id.insert(jti.to_owned(), exp);
        true
    }
}
