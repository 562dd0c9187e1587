//! What a call takes with a check and without; interleaved, in one run.

use std::time::Duration;

use shared::report::Recorder;
use shared::stats::Latencies;

use super::mesh::{BARE, Mesh};
use super::tables::{table, tell};
use crate::client::{Call, Caller, Protocol, Wish};
use crate::topology::FRONT;

/// Rounds, in each of which both ways have their turn, so that a busy moment of the machine hits both alike.
const ROUNDS: u64 = 20;

/// Calls of one turn, one at a time.
const CALLS: usize = 50;

/// One way to call.
struct Way {
    name: &'static str,
    caller: Caller,
    latencies: Latencies,
    failed: u64,
}

impl Mesh {
    /// gRPC calls over one connection each, through the same Envoy to the same backend.
    pub(super) async fn cost(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let token = self.token("rita", &["reader"])?;
        let call = Call::new(Wish::Hello).token(&token);
        let way = |name, door| {
            anyhow::Ok(Way { name, caller: self.at(door)?, latencies: Latencies::default(), failed: 0 })
        };
        let mut ways = [way("without ext_authz", BARE)?, way("with ext_authz", FRONT)?];
        for way in &mut ways {
            // Connections are made, and the token is verified once.
            _ = way.caller.call(Protocol::Grpc, &call).await?;
        }
        let bar = story.progress("rounds", ROUNDS);
        for _ in 0..ROUNDS {
            for way in &mut ways {
                way.turn(&call).await;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let mut shown = table(["way", "p50", "p99"]);
        for way in &ways {
            shown.add_row([
                way.name.to_owned(),
                format!("{:.0?}", way.at(50.0)),
                format!("{:.0?}", way.at(99.0)),
            ]);
        }
        let [without, with] = &ways;
        let more = |percent| with.at(percent).saturating_sub(without.at(percent));
        shown.add_row(["added".to_owned(), format!("{:.0?}", more(50.0)), format!("{:.0?}", more(99.0))]);
        tell(story, &shown);
        story.note(format!("{} calls a way, one at a time, the token known", ROUNDS * CALLS as u64));
        if cfg!(debug_assertions) {
            story.note("all but Envoy is a debug build here: for figures, run with --release");
        }
        story.claim(
            "cost",
            "A check costs time, and less than a decision may take",
            format!(
                "more than {:.0?}, and less than {:.0?} more",
                without.at(50.0),
                crate::topology::TIMEOUT
            ),
            format!("p50 {:.0?}", with.at(50.0)),
            with.at(50.0) > without.at(50.0)
                && more(50.0) < crate::topology::TIMEOUT
                && with.failed + without.failed == 0,
        );
        Ok(())
    }
}

impl Way {
    async fn turn(&mut self, call: &Call<'_>) {
        for _ in 0..CALLS {
            match self.caller.call(Protocol::Grpc, call).await {
                Ok(seen) if seen.passed() => self.latencies.record(seen.took),
                _ => self.failed += 1,
            }
        }
    }

    fn at(&self, percent: f64) -> Duration {
        self.latencies.percentile(percent)
    }
}
