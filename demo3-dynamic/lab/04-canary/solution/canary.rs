//! What comes next for a canary.

/// What was agreed on before.
#[derive(Clone, Debug)]
pub struct Plan {
    /// So many requests the canary gets before anything is decided.
    pub requests: u64,
    /// Its share until then, in per cent.
    pub percent: u32,
    /// It is good if at most so many per cent of its requests fail.
    pub most_failures: u64,
}

/// What Envoy counted since the canary was let in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// All requests, the canary's among them.
    pub all: u64,
    /// The canary's requests.
    pub canary: u64,
    /// Those of the canary's requests that failed.
    pub failed: u64,
}

/// The canary's share from now on, in per cent.
pub fn next(plan: &Plan, seen: &Seen) -> u32 {
    if seen.canary < plan.requests {
        return plan.percent;
    }
    let good = seen.failed * 100 <= plan.most_failures * seen.canary;
    if good { 100 } else { 0 }
}
