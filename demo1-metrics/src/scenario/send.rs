//! Sending a load through the mesh, again if the machine was too busy to judge durations.

use std::time::{Duration, SystemTime};

use shared::report::Recorder;

use super::load::{DURATION, Load, RATE};
use super::mesh::Mesh;
use crate::load;

/// How late a response may be before the machine counts as too busy to judge durations. Far enough below
/// [`SLOW`](super::slow::SLOW) that no stall looks like an injected delay.
const STALL: Duration = Duration::from_millis(150);

/// The maximum number of attempts to send such a load.
const TRIES: u32 = 6;

impl Mesh {
    /// Sends a load to the front proxy, and waits until Prometheus has scraped its effects.
    pub(super) async fn load(
        &self,
        story: &Recorder,
        what: &str,
        duration: Duration,
    ) -> anyhow::Result<Load> {
        let plan = load::Plan { uri: format!("http://{}/", self.front()).parse()?, rate: RATE, duration };
        let bar = story.progress(what, plan.requests());
        let until = SystemTime::now() + duration;
        let outcome = plan.run(|| bar.inc(1)).await;
        bar.finish_and_clear();
        self.catch_up().await?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let sent = outcome.sent as f64;
        Ok(Load { sent, failed: outcome.failed(), outcome, until, disturbed: None })
    }

    /// Sends a load whose durations a claim judges. If the load's own clock shows that the machine stalled under other
    /// work, the load is sent again. Counts stay exact, because every attempt is counted.
    pub(super) async fn steady_load(
        &self,
        story: &Recorder,
        what: &str,
        delay: Duration,
    ) -> anyhow::Result<Load> {
        let (mut sent, mut failed, mut tries) = (0.0, 0, 0);
        loop {
            tries += 1;
            let load = self.load(story, what, DURATION).await?;
            sent += load.sent;
            failed += load.failed;
            // All except one of the 300 requests. At most one in a window can be later, so no p99 is.
            let took = load.outcome.latencies.percentile(99.5);
            let stalled = took.saturating_sub(delay);
            let load = Load { sent, failed, ..load };
            if stalled <= STALL {
                return Ok(load);
            }
            let why = format!("the machine is too busy: answers came {stalled:.0?} late");
            if tries == TRIES {
                return Ok(Load { disturbed: Some(why), ..load });
            }
            story.note(format!("{why}; once more"));
        }
    }
}
