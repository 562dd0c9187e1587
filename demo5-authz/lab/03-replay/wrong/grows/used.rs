//! Tokens that were used, so that none is used twice.

use std::collections::HashMap;

/// The longest id that is remembered, in bytes.
const LONGEST: usize = 64;

/// What is remembered of them.
#[derive(Debug, Default)]
pub struct Used {
    /// The most ids that may be remembered.
    most: usize,
    /// When their tokens expire, by id.
    known: HashMap<String, u64>,
    /// The latest time that was ever seen.
    latest: u64,
}

impl Used {
    /// Nothing was used yet; `most` ids at most will be remembered.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Whether the token with the id `jti`, which is valid before `exp`, may be used `now`. Times are in seconds.
    pub fn take(&mut self, jti: &str, exp: u64, now: u64) -> bool {
        // What was forgotten as expired must not be valid again because a clock was set back.
        self.latest = self.latest.max(now);
        let now = self.latest;
        if jti.is_empty() || jti.len() > LONGEST || now >= exp || self.known.contains_key(jti) {
            return false;
        }
        self.known.insert(jti.to_owned(), exp);
        true
    }
}
