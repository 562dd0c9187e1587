//! One way to call: a data plane, and a client that uses it.

use anyhow::{Context, bail};

use super::limits::{CALLS, LIMIT};
use crate::backend::Backend;
use crate::caller::{Call, Caller, Tally};
use crate::topology::DataPlane;

/// How many calls run at once in a measurement.
const AT_ONCE: usize = 8;

/// How many answers in a row must come from these `backends` before another one is taken to be called no more.
///
/// A client that draws at random among these and one that left misses that one `n` times in a row with a probability
/// of (1 - 1 / (backends + 1))^n, which is below 1 in 10 million here. It waits for a claim, and must not break one.
fn in_a_row(backends: usize) -> usize {
    let odds = 1e7_f64.ln();
    (odds * (backends + 1) as f64).ceil() as usize
}

/// A data plane and its client.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) plane: DataPlane,
    pub(super) caller: Caller,
}

impl Lane {
    pub(super) fn new(plane: DataPlane, caller: Caller) -> Self {
        Self { plane, caller }
    }

    pub(super) fn name(&self) -> &'static str {
        self.plane.name()
    }

    /// The id of a claim about this lane.
    pub(super) fn id(&self, claim: &str) -> String {
        format!("{claim}-{}", self.name())
    }

    /// Calls until each of these backends has answered, and in the last [`in_a_row`] calls nobody else:
    /// until the client has taken up the newest world.
    pub(super) async fn reach(&self, backends: impl IntoIterator<Item = &Backend>) -> anyhow::Result<()> {
        let names: Vec<&str> = backends.into_iter().map(Backend::name).collect();
        let mut recent: Vec<Call> = Vec::new();
        let begun = std::time::Instant::now();
        loop {
            recent.push(self.caller.call().await);
            let expected = |call: &&Call| call.answer.as_deref().is_ok_and(|name| names.contains(&name));
            let well = recent.iter().rev().take_while(expected).count();
            let tail = &recent[recent.len() - well..];
            if well >= in_a_row(names.len())
                && names.iter().all(|name| tail.iter().any(|call| call.answered_by(name)))
            {
                return Ok(());
            }
            if begun.elapsed() > LIMIT {
                let tally: Tally = tail.iter().collect();
                let last = recent.last().context("at least one call was made")?;
                bail!(
                    "the {} client did not come to call {} within {LIMIT:?}; lately {}, the last one {:?}",
                    self.name(),
                    names.join(", "),
                    tally.shares,
                    last.answer
                );
            }
            // Only the newest matter; a long wait must not grow without bound.
            if recent.len() > 10_000 {
                recent.drain(..5_000);
            }
        }
    }

    /// Makes `n` calls and adds up what became of them.
    pub(super) async fn measure(&self, n: usize) -> Tally {
        self.caller.calls(n, AT_ONCE).await.iter().collect()
    }

    /// As [`measure`](Self::measure), the usual number of calls.
    pub(super) async fn measured(&self) -> Tally {
        self.measure(CALLS).await
    }
}
