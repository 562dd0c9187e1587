//! A data plane and a client that calls through it.

use anyhow::{Context, bail};

use super::limits::{CALLS, LIMIT};
use crate::backend::Backend;
use crate::caller::{Call, Caller, Tally};
use crate::topology::DataPlane;

/// How many calls run at once in a measurement.
const CONCURRENCY: usize = 8;

/// How many answers in a row must come from these `backends` before another one is taken to be called no more.
///
/// A client that draws at random among these and one that left misses that one `n` times in a row with a probability
/// of (1 - 1 / (backends + 1))^n, which is below 1 in 10 million here. It waits for a claim, and must not break one.
fn required_streak(backends: usize) -> usize {
    let odds = 1e7_f64.ln();
    (odds * (backends + 1) as f64).ceil() as usize
}

/// A data plane and its client.
#[derive(Clone, Debug)]
pub(super) struct DataPlaneClient {
    pub(super) plane: DataPlane,
    pub(super) caller: Caller,
}

impl DataPlaneClient {
    pub(super) fn new(plane: DataPlane, caller: Caller) -> Self {
        Self { plane, caller }
    }

    pub(super) fn name(&self) -> &'static str {
        self.plane.name()
    }

    /// Returns the id of a claim about this data plane.
    pub(super) fn id(&self, claim: &str) -> String {
        format!("{claim}-{}", self.name())
    }

    /// Calls until each of these backends has answered and no other backend answered the last [`required_streak`] calls.
    /// Then the client uses the newest configuration.
    pub(super) async fn wait_for_backends(
        &self,
        backends: impl IntoIterator<Item = &Backend>,
    ) -> anyhow::Result<()> {
        let names: Vec<&str> = backends.into_iter().map(Backend::name).collect();
        let mut recent_calls: Vec<Call> = Vec::new();
        let started = std::time::Instant::now();
        loop {
            recent_calls.push(self.caller.call().await);
            let expected = |call: &&Call| call.result.as_deref().is_ok_and(|name| names.contains(&name));
            let streak = recent_calls.iter().rev().take_while(expected).count();
            let trailing = &recent_calls[recent_calls.len() - streak..];
            if streak >= required_streak(names.len())
                && names.iter().all(|name| trailing.iter().any(|call| call.answered_by(name)))
            {
                return Ok(());
            }
            if started.elapsed() > LIMIT {
                let tally: Tally = trailing.iter().collect();
                let last = recent_calls.last().context("at least one call was made")?;
                bail!(
                    "the {} client did not come to call {} within {LIMIT:?}; lately {}, the last one {:?}",
                    self.name(),
                    names.join(", "),
                    tally.shares,
                    last.result
                );
            }
            // Only the newest matter; a long wait must not grow without bound.
            if recent_calls.len() > 10_000 {
                recent_calls.drain(..5_000);
            }
        }
    }

    /// Makes `n` calls and returns their tally.
    pub(super) async fn measure_calls(&self, n: usize) -> Tally {
        self.caller.calls(n, CONCURRENCY).await.iter().collect()
    }

    /// Like [`measure_calls`](Self::measure_calls), with the default number of calls.
    pub(super) async fn measure(&self) -> Tally {
        self.measure_calls(CALLS).await
    }
}
