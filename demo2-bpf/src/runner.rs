//! One program's run: bpftrace and the other witnesses, each read so that their counts can be compared.
//!
//! ```text
//!   count ─> bpftrace ──READY──> count ──> 23 connections ──> count ──> SIGTERM ─> maps ─> count
//!     │                            └── at least what it saw ──┘                              │
//!     └─────────────────────────────── at most what it saw ──────────────────────────────────┘
//! ```
//!
//! Two witnesses cannot be asked in the same instant, and the client may not be alone. So no margin is guessed: what
//! bpftrace counted lies between two counts of the other.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;
use shared::tools;

use crate::compare::compare;
use crate::facts::{Facts, Recording};
use crate::plan::Plan;
use crate::program::Program;
use crate::reference;
use crate::target::Target;
use crate::trace::Trace;
use crate::tracer::Tracer;
use crate::workload;

/// Connections that the client tears down where trouble is looked for.
const RESETS: u64 = 5;

/// How long Envoy may take to have counted everything.
const LIMIT: Duration = Duration::from_secs(20);

/// How programs are run, and what is true of all runs.
#[derive(Debug)]
pub struct Runner<'a> {
    /// What to run.
    pub plan: &'a Plan,
    /// Facts that are the same in all runs.
    pub versions: Facts,
    /// Ends bpftrace and Envoy.
    pub life: &'a Lifecycle,
}

impl Runner<'_> {
    /// Starts an Envoy while it is watched.
    ///
    /// # Errors
    /// If bpftrace or Envoy does not start.
    pub async fn start(
        &self,
        envoy: Option<&tools::Program>,
        recorder: &mut Recorder,
    ) -> anyhow::Result<Target> {
        let tracer = Tracer::start(&self.plan.bpftrace, Program::Listen, &[], self.life).await?;
        let target = self.plan.source.target(envoy, self.plan.stay, self.life).await?;
        let lines = tracer.stop().await?;
        let facts = Facts {
            envoy: target.version.clone(),
            pid: target.pid,
            started_by_us: true,
            direct: target.direct,
            workers: reference::worker_threads(target.pid),
            listening_sockets: reference::listening_sockets(target.pid, target.listener_port),
            ..self.versions.clone()
        };
        self.record_and_compare(Program::Listen, &Recording { facts, lines }, recorder)?;
        Ok(target)
    }

    /// Runs the work under one program.
    ///
    /// # Errors
    /// If a witness breaks, or the workload does.
    pub async fn run(&self, program: Program, target: &Target) -> anyhow::Result<Recording> {
        let arguments = target.arguments(program);
        let workers = reference::worker_threads(target.pid);
        let switches = || reference::context_switches(target.pid, workers.keys().copied());
        // All is read four times: bpftrace watches for less than between the outer two, for more than between the
        // inner.
        let outer = switches();
        let retransmitted = reference::retransmitted_segments(target.pid);
        let counters_before = reference::envoy_counters(&target.admin).await?;
        let iterations_outer =
            if program == Program::Loop { reference::loop_iterations(&target.admin).await } else { None };
        let times_before =
            if program == Program::Latency { reference::envoy_times(&target.admin).await } else { None };
        let tracer = Tracer::start(&self.plan.bpftrace, program, &arguments, self.life).await?;
        let iterations_inner = if program == Program::Loop {
            reference::merged_loop_iterations(&target.admin).await
        } else {
            None
        };
        let before = reference::envoy_counters(&target.admin).await?;
        let inner = switches();
        let resets = if program == Program::Errors { RESETS } else { 0 };
        let done = match program {
            Program::Latency => workload::run_slowly(target.call).await,
            _ => workload::run(target.call, resets).await,
        };
        let mut sent = done.with_context(|| format!("the workload against {} failed", target.call))?;
        // Envoy notices the last close a moment after the client made it. Others may keep connections open, so those
        // that have ended are counted, not those that are left.
        let ours = sent.connections + sent.resets;
        let what = "Envoy to see every connection end";
        let envoy_counters = poll::wait_until(what, Duration::from_millis(5), LIMIT, || async {
            let now = reference::envoy_counters(&target.admin)
                .await
                .map_err(|error| error.to_string())?
                .since(&before);
            if now.downstream_ended >= ours {
                Ok(now)
            } else {
                Err(format!("{} of {ours}", now.downstream_ended))
            }
        })
        .await?;
        let inner = reference::context_switches_since(switches(), &inner);
        // What Envoy merged last may lack some turns, but has none too many.
        let iterations_min = match iterations_inner {
            Some(then) => {
                reference::merged_loop_iterations(&target.admin).await.map(|now| now.saturating_sub(then))
            }
            None => None,
        };
        let lines = tracer.stop().await?;
        let iterations_max = match iterations_outer {
            Some(then) => {
                reference::merged_loop_iterations(&target.admin).await.map(|now| now.saturating_sub(then))
            }
            None => None,
        };
        let envoy_times = match times_before {
            Some(before) => reference::envoy_times(&target.admin).await.map(|now| now.since(&before)),
            None => None,
        };
        if target.ours && program == Program::Latency {
            sent.backend_micros = sent.requests * u64::try_from(workload::WAIT.as_micros())?;
        }
        let outer = reference::context_switches_since(switches(), &outer);
        let envoy_counters_outer = reference::envoy_counters(&target.admin).await?.since(&counters_before);
        let retransmitted = reference::retransmitted_segments(target.pid)
            .zip(retransmitted)
            .map(|(now, then)| now.saturating_sub(then));
        target.check_alive()?;
        let facts = Facts {
            envoy: target.version.clone(),
            pid: target.pid,
            started_by_us: target.ours,
            direct: target.direct,
            workers,
            listening_sockets: reference::listening_sockets(target.pid, target.listener_port),
            sent,
            envoy_counters,
            envoy_counters_outer,
            envoy_times,
            retransmitted,
            loop_iterations: iterations_min.zip(iterations_max),
            context_switches: inner,
            context_switches_outer: outer,
            ..self.versions.clone()
        };
        Ok(Recording { facts, lines })
    }

    /// Keeps what was seen, if it shall be kept, and judges it.
    ///
    /// # Errors
    /// If it cannot be kept, or is not what bpftrace prints.
    pub fn record_and_compare(
        &self,
        program: Program,
        recording: &Recording,
        recorder: &mut Recorder,
    ) -> anyhow::Result<()> {
        if let Some(folder) = &self.plan.record {
            save(folder, program, recording)?;
        }
        let trace = Trace::parse(recording.lines.iter().map(String::as_str))?;
        compare(program, &trace, &recording.facts, recorder);
        Ok(())
    }
}

fn save(folder: &Path, program: Program, recording: &Recording) -> anyhow::Result<()> {
    let path = folder.join(format!("{}.jsonl", program.name()));
    std::fs::create_dir_all(folder).with_context(|| format!("no folder {}", folder.display()))?;
    std::fs::write(&path, recording.to_lines()?).with_context(|| format!("cannot write {}", path.display()))
}
