//! What a call takes with a check and without; interleaved, in one run.

use std::time::Duration;

use shared::report::Recorder;
use shared::stats::Latencies;

use super::mesh::{Mesh, NO_AUTHZ_LISTENER};
use super::tables::{print_table, table};
use crate::client::{Call, Caller, Operation, Protocol};
use crate::topology::FRONT_LISTENER;

/// Rounds, in each of which both ways have their turn, so that a busy moment of the machine hits both alike.
const ROUNDS: u64 = 20;

/// Calls of one turn, one at a time.
const CALLS: usize = 50;

/// One way to call.
struct CallPath {
    name: &'static str,
    caller: Caller,
    latencies: Latencies,
    failed: u64,
}

impl Mesh {
    /// gRPC calls over one connection each, through the same Envoy to the same backend.
    pub(super) async fn cost(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let token = self.token("rita", &["reader"])?;
        let call = Call::new(Operation::Hello).with_token(&token);
        let path = |name, listener| {
            anyhow::Ok(CallPath {
                name,
                caller: self.caller_at(listener)?,
                latencies: Latencies::default(),
                failed: 0,
            })
        };
        let mut paths =
            [path("without ext_authz", NO_AUTHZ_LISTENER)?, path("with ext_authz", FRONT_LISTENER)?];
        for path in &mut paths {
            // Connections are made, and the token is verified once.
            _ = path.caller.call(Protocol::Grpc, &call).await?;
        }
        let bar = recorder.progress("rounds", ROUNDS);
        for _ in 0..ROUNDS {
            for path in &mut paths {
                path.measure_round(&call).await;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let mut table_rows = table(["way", "p50", "p99"]);
        for path in &paths {
            table_rows.add_row([
                path.name.to_owned(),
                format!("{:.0?}", path.percentile(50.0)),
                format!("{:.0?}", path.percentile(99.0)),
            ]);
        }
        let [without, with] = &paths;
        let added = |percent| with.percentile(percent).saturating_sub(without.percentile(percent));
        table_rows.add_row([
            "added".to_owned(),
            format!("{:.0?}", added(50.0)),
            format!("{:.0?}", added(99.0)),
        ]);
        print_table(recorder, &table_rows);
        recorder.note(format!("{} calls a way, one at a time, the token known", ROUNDS * CALLS as u64));
        if cfg!(debug_assertions) {
            recorder.note("all but Envoy is a debug build here: for figures, run with --release");
        }
        recorder.claim(
            "cost-latency",
            "A check costs time, and less than a decision may take",
            format!(
                "more than {:.0?}, and less than {:.0?} more",
                without.percentile(50.0),
                crate::topology::EXT_AUTHZ_TIMEOUT
            ),
            format!("p50 {:.0?}", with.percentile(50.0)),
            with.percentile(50.0) > without.percentile(50.0)
                && added(50.0) < crate::topology::EXT_AUTHZ_TIMEOUT
                && with.failed + without.failed == 0,
        );
        Ok(())
    }
}

impl CallPath {
    async fn measure_round(&mut self, call: &Call<'_>) {
        for _ in 0..CALLS {
            match self.caller.call(Protocol::Grpc, call).await {
                Ok(seen) if seen.reached_backend() => self.latencies.record(seen.duration),
                _ => self.failed += 1,
            }
        }
    }

    fn percentile(&self, percent: f64) -> Duration {
        self.latencies.percentile(percent)
    }
}
