//! What comes next for a canary.

/// What was agreed on before.
#[derive(Clone, Debug)]
pub struct Plan {
    /// So many requests the canary gets before anything is decided.
    pub requests: u64,
    /// Its share until then, in per cent.
    pub percent: u32,
    /// The maximum percentage of failed requests of a good canary.
    pub max_failure_percent: u64,
}

/// What Envoy counted since the canary was let in.
#[derive(Clone, Debug)]
pub struct Counts {
    /// All requests, the canary's among them.
    pub all: u64,
    /// The canary's requests.
    pub canary: u64,
    /// Those of the canary's requests that failed.
    pub failed: u64,
}

/// Returns the canary's share from now on, in per cent.
pub fn next_percent(plan: &Plan, _counts: &Counts) -> u32 {
    plan.percent
}
