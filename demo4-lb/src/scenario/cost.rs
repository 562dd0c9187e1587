//! What a call costs directly, by a proxyless client, and through Envoy; interleaved, in one run.

use std::time::Duration;

use comfy_table::{Table, presets};
use shared::cpu;
use shared::lifecycle::Lifecycle;
use shared::report::Recorder;
use shared::stats::Latencies;

use super::mesh::{Mesh, backends};
use crate::backend::Backend;
use crate::caller::{Caller, Tally};
use crate::topology::{DataPlane, World};

/// Rounds, in each of which every way has its turn, so that a busy moment of the machine hits all alike.
const ROUNDS: u64 = 10;

/// Calls of one turn, one at a time: what waits for others is not the proxy's cost.
const CALLS: usize = 100;

/// One way to call, and what it took.
struct Way {
    name: &'static str,
    caller: Caller,
    latencies: Latencies,
    failed: u64,
    /// None where the system does not tell.
    cpu: Option<Duration>,
}

impl Mesh {
    /// One backend, so that every way ends at the same place.
    pub(super) async fn cost(&mut self, story: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let backends = backends("backend", 1, scope).await?;
        self.show(&World::new(self.world.listen, backends.iter().map(Backend::address))).await?;
        let direct = Caller::connect(&format!("http://{}", backends[0].address()))?;
        let mut ways = vec![Way::new("direct", direct)];
        for lane in self.lanes()? {
            lane.reach(&backends).await?;
            ways.push(Way::new(lane.name(), lane.caller));
        }
        let envoy = self.envoy.as_ref().map(|sidecar| sidecar.envoy.pid());
        let bar = story.progress("rounds", ROUNDS);
        for _ in 0..ROUNDS {
            for way in &mut ways {
                way.turn(envoy).await;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        tell(story, &ways);
        let failed: Vec<_> = ways.iter().map(|way| format!("{} {}", way.name, way.failed)).collect();
        story.claim(
            "cost-no-failure",
            "No call of the comparison fails",
            format!("0 of {} a way fail", ROUNDS * CALLS as u64),
            failed.join(", "),
            ways.iter().all(|way| way.failed == 0),
        );
        more_than_direct(story, &ways);
        Ok(())
    }
}

/// What is claimed of Envoy; of the proxyless client the table tells enough.
fn more_than_direct(story: &mut Recorder, ways: &[Way]) {
    let (slower, dearer) = (
        ("cost-envoy", "A call through Envoy takes longer than a direct one"),
        ("cost-envoy-cpu", "A call through Envoy costs more CPU than a direct one"),
    );
    let direct = &ways[0];
    let Some(envoy) = ways.iter().find(|way| way.name == DataPlane::Envoy.name()) else {
        for (id, claim) in [slower, dearer] {
            story.not_checked(id, claim, "more", "run with --data-plane envoy or both");
        }
        return;
    };
    let (id, claim) = slower;
    let n = (envoy.latencies.len(), direct.latencies.len());
    let expected = format!("more than {:.1?} (p50, n {} and {})", direct.p50(), n.0, n.1);
    story.claim(id, claim, expected, format!("{:.1?}", envoy.p50()), envoy.p50() > direct.p50());
    let (id, claim) = dearer;
    match (envoy.cpu_a_call(), direct.cpu_a_call()) {
        (Some(envoy), Some(direct)) => {
            let expected = format!("more than {direct:.0?} (mean, n {} and {})", n.0, n.1);
            story.claim(id, claim, expected, format!("{envoy:.0?}"), envoy > direct);
        }
        _ => story.not_checked(id, claim, "more", "this system has no /proc that tells threads' CPU time"),
    }
}

impl Way {
    fn new(name: &'static str, caller: Caller) -> Self {
        Self { name, caller, latencies: Latencies::default(), failed: 0, cpu: Some(Duration::ZERO) }
    }

    async fn turn(&mut self, envoy: Option<u32>) {
        let used =
            || Some(cpu::cpu_time(std::process::id())? + envoy.map_or(Some(Duration::ZERO), cpu::cpu_time)?);
        let before = used();
        let calls = self.caller.calls(CALLS, 1).await;
        let spent = used().zip(before).map(|(after, before)| after.saturating_sub(before));
        self.cpu = self.cpu.zip(spent).map(|(all, one)| all + one);
        for call in calls.iter().filter(|call| call.answer.is_ok()) {
            self.latencies.record(call.took);
        }
        self.failed += calls.iter().collect::<Tally>().failed();
    }

    fn p50(&self) -> Duration {
        self.latencies.percentile(50.0)
    }

    fn p99(&self) -> Duration {
        self.latencies.percentile(99.0)
    }

    fn cpu_a_call(&self) -> Option<Duration> {
        Some(self.cpu? / u32::try_from(self.latencies.len().max(1)).unwrap_or(u32::MAX))
    }
}

fn tell(story: &mut Recorder, ways: &[Way]) {
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
    for way in ways {
        let ratio = |one: Duration, base: Duration| {
            format!("{:.2}", one.as_secs_f64() / base.as_secs_f64().max(1e-9))
        };
        let cpu = way.cpu_a_call().zip(ways[0].cpu_a_call());
        let unknown = || "?".to_owned();
        table.add_row([
            way.name.to_owned(),
            format!("{:.0?}", way.p50()),
            format!("{:.0?}", way.p99()),
            cpu.map_or_else(unknown, |(one, _)| format!("{one:.0?}")),
            ratio(way.p50(), ways[0].p50()),
            ratio(way.p99(), ways[0].p99()),
            cpu.map_or_else(unknown, |(one, base)| ratio(one, base)),
        ]);
    }
    for line in table.to_string().lines() {
        story.note(line);
    }
    story.note(format!(
        "{} calls a way, one at a time; CPU is the client's, the backend's and Envoy's together",
        ROUNDS * CALLS as u64
    ));
    if cfg!(debug_assertions) {
        story
            .note("client and backend are a debug build here, Envoy is not: for figures, run with --release");
    }
}
