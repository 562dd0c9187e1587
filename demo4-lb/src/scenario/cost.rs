//! What a call costs directly, by a proxyless client, and through Envoy; interleaved, in one run.

use std::time::Duration;

use comfy_table::{Table, presets};
use shared::lifecycle::Lifecycle;
use shared::report::Story;
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
    cpu: Duration,
}

impl Mesh {
    /// One backend, so that every way ends at the same place.
    pub(super) async fn cost(&mut self, story: &mut Story, scope: &Lifecycle) -> anyhow::Result<()> {
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
        for way in &ways[1..] {
            let what =
                format!("more than a direct one ({:.1?}, {:.0?} CPU)", ways[0].p50(), ways[0].cpu_a_call());
            let more = way.p50() > ways[0].p50() && way.cpu_a_call() > ways[0].cpu_a_call();
            if way.name == DataPlane::Envoy.name() {
                story.claim(
                    "cost-envoy",
                    "A call through Envoy takes longer and costs more CPU than a direct one",
                    what,
                    format!("p50 {:.1?}, {:.0?} CPU", way.p50(), way.cpu_a_call()),
                    more && way.failed == 0,
                );
            }
        }
        Ok(())
    }
}

impl Way {
    fn new(name: &'static str, caller: Caller) -> Self {
        Self { name, caller, latencies: Latencies::default(), failed: 0, cpu: Duration::ZERO }
    }

    async fn turn(&mut self, envoy: Option<u32>) {
        let used = || cpu_time(std::process::id()) + envoy.map_or(Duration::ZERO, cpu_time);
        let before = used();
        let calls = self.caller.calls(CALLS, 1).await;
        self.cpu += used().saturating_sub(before);
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

    fn cpu_a_call(&self) -> Duration {
        self.cpu / u32::try_from(self.latencies.len().max(1)).unwrap_or(u32::MAX)
    }
}

fn tell(story: &mut Story, ways: &[Way]) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "way",
        "p50",
        "p99",
        "CPU a call",
        "p50 ÷ direct",
        "CPU ÷ direct",
    ]);
    for way in ways {
        let ratio = |one: Duration, base: Duration| {
            format!("{:.2}", one.as_secs_f64() / base.as_secs_f64().max(1e-9))
        };
        table.add_row([
            way.name.to_owned(),
            format!("{:.0?}", way.p50()),
            format!("{:.0?}", way.p99()),
            format!("{:.0?}", way.cpu_a_call()),
            ratio(way.p50(), ways[0].p50()),
            ratio(way.cpu_a_call(), ways[0].cpu_a_call()),
        ]);
    }
    for line in table.to_string().lines() {
        story.tell(line);
    }
    story.tell(format!(
        "{} calls a way, one at a time; CPU is the client's, the backend's and Envoy's together",
        ROUNDS * CALLS as u64
    ));
    if cfg!(debug_assertions) {
        story
            .tell("client and backend are a debug build here, Envoy is not: for figures, run with --release");
    }
}

/// The CPU time that a process has used, all of its living threads together; zero where it cannot be read.
///
/// Source: proc(5), `/proc/PID/task/TID/schedstat`, whose first number is in nanoseconds.
fn cpu_time(pid: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let used = threads.flatten().filter_map(|thread| {
        let line = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        line.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(used.sum())
}
