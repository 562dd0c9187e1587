//! What a call costs directly, by a proxyless client, and through Envoy; interleaved, in one run.

use std::time::Duration;

use comfy_table::{Table, presets};
use shared::cpu;
use shared::lifecycle::Lifecycle;
use shared::report::Recorder;
use shared::stats::Latencies;

use super::mesh::{Mesh, start_backends};
use crate::backend::Backend;
use crate::caller::{Caller, Tally};
use crate::topology::{DataPlane, DesiredState};

/// Rounds, in each of which every way has its turn, so that a busy moment of the machine hits all alike.
const ROUNDS: u64 = 10;

/// Calls of one turn, one at a time: what waits for others is not the proxy's cost.
const CALLS: usize = 100;

/// One path for calls, and its latencies and CPU time.
struct CallPath {
    name: &'static str,
    caller: Caller,
    latencies: Latencies,
    failed: u64,
    /// None where the system does not tell.
    cpu: Option<Duration>,
}

impl Mesh {
    /// One backend, so that every way ends at the same place.
    pub(super) async fn cost(&mut self, recorder: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let backends = start_backends("backend", 1, scope).await?;
        self.publish_and_wait(&DesiredState::new(
            self.desired_state.listen,
            backends.iter().map(Backend::address),
        ))
        .await?;
        let direct = Caller::connect(&format!("http://{}", backends[0].address()))?;
        let mut paths = vec![CallPath::new("direct", direct)];
        for client in self.data_plane_clients()? {
            client.wait_for_backends(&backends).await?;
            paths.push(CallPath::new(client.name(), client.caller));
        }
        let envoy = self.envoy.as_ref().map(|sidecar| sidecar.envoy.pid());
        let bar = recorder.progress("rounds", ROUNDS);
        for _ in 0..ROUNDS {
            for path in &mut paths {
                path.measure_round(envoy).await;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        print_table(recorder, &paths);
        let failed: Vec<_> = paths.iter().map(|path| format!("{} {}", path.name, path.failed)).collect();
        recorder.claim(
            "cost-no-failure",
            "No call of the comparison fails",
            format!("0 of {} a way fail", ROUNDS * CALLS as u64),
            failed.join(", "),
            paths.iter().all(|path| path.failed == 0),
        );
        claim_envoy_costs_more(recorder, &paths);
        Ok(())
    }
}

/// What is claimed of Envoy; of the proxyless client the table tells enough.
fn claim_envoy_costs_more(recorder: &mut Recorder, paths: &[CallPath]) {
    let (latency_claim, cpu_claim) = (
        ("cost-latency-envoy", "A call through Envoy takes longer than a direct one"),
        ("cost-cpu-envoy", "A call through Envoy costs more CPU than a direct one"),
    );
    let direct = &paths[0];
    let Some(envoy) = paths.iter().find(|path| path.name == DataPlane::Envoy.name()) else {
        for (id, claim) in [latency_claim, cpu_claim] {
            recorder.not_checked(id, claim, "more", "run with --data-plane envoy or both");
        }
        return;
    };
    let (id, claim) = latency_claim;
    let n = (envoy.latencies.len(), direct.latencies.len());
    let expected = format!("more than {:.1?} (p50, n {} and {})", direct.p50(), n.0, n.1);
    recorder.claim(id, claim, expected, format!("{:.1?}", envoy.p50()), envoy.p50() > direct.p50());
    let (id, claim) = cpu_claim;
    match (envoy.cpu_per_call(), direct.cpu_per_call()) {
        (Some(envoy), Some(direct)) => {
            let expected = format!("more than {direct:.0?} (mean, n {} and {})", n.0, n.1);
            recorder.claim(id, claim, expected, format!("{envoy:.0?}"), envoy > direct);
        }
        _ => recorder.not_checked(id, claim, "more", "this system has no /proc that tells threads' CPU time"),
    }
}

impl CallPath {
    fn new(name: &'static str, caller: Caller) -> Self {
        Self { name, caller, latencies: Latencies::default(), failed: 0, cpu: Some(Duration::ZERO) }
    }

    async fn measure_round(&mut self, envoy: Option<u32>) {
        let cpu_time =
            || Some(cpu::cpu_time(std::process::id())? + envoy.map_or(Some(Duration::ZERO), cpu::cpu_time)?);
        let before = cpu_time();
        let calls = self.caller.calls(CALLS, 1).await;
        let cpu = cpu_time().zip(before).map(|(after, before)| after.saturating_sub(before));
        self.cpu = self.cpu.zip(cpu).map(|(all, one)| all + one);
        for call in calls.iter().filter(|call| call.result.is_ok()) {
            self.latencies.record(call.duration);
        }
        self.failed += calls.iter().collect::<Tally>().failed();
    }

    fn p50(&self) -> Duration {
        self.latencies.percentile(50.0)
    }

    fn p99(&self) -> Duration {
        self.latencies.percentile(99.0)
    }

    fn cpu_per_call(&self) -> Option<Duration> {
        Some(self.cpu? / u32::try_from(self.latencies.len().max(1)).unwrap_or(u32::MAX))
    }
}

fn print_table(recorder: &mut Recorder, paths: &[CallPath]) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "way",
        "p50",
        "p99",
        "CPU a call",
        "p50 ÷ direct",
        "p99 ÷ direct",
        "CPU ÷ direct",
    ]);
    for path in paths {
        let ratio = |one: Duration, base: Duration| {
            format!("{:.2}", one.as_secs_f64() / base.as_secs_f64().max(1e-9))
        };
        let cpu = path.cpu_per_call().zip(paths[0].cpu_per_call());
        let unknown = || "?".to_owned();
        table.add_row([
            path.name.to_owned(),
            format!("{:.0?}", path.p50()),
            format!("{:.0?}", path.p99()),
            cpu.map_or_else(unknown, |(one, _)| format!("{one:.0?}")),
            ratio(path.p50(), paths[0].p50()),
            ratio(path.p99(), paths[0].p99()),
            cpu.map_or_else(unknown, |(one, base)| ratio(one, base)),
        ]);
    }
    for line in table.to_string().lines() {
        recorder.note(line);
    }
    recorder.note(format!(
        "{} calls a way, one at a time; CPU is the client's, the backend's and Envoy's together",
        ROUNDS * CALLS as u64
    ));
    if cfg!(debug_assertions) {
        recorder
            .note("client and backend are a debug build here, Envoy is not: for figures, run with --release");
    }
}
