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

use crate::facts::{Facts, Recording};
use crate::judge::judge;
use crate::plan::Plan;
use crate::program::Program;
use crate::target::Target;
use crate::trace::Trace;
use crate::tracer::Tracer;
use crate::witness;
use crate::workload;

/// Connections that the client tears down where trouble is looked for.
const RESETS: u64 = 5;

/// How long Envoy may take to have counted everything.
const LIMIT: Duration = Duration::from_secs(20);

/// How programs are run, and what is true of all runs.
#[derive(Debug)]
pub struct Watch<'a> {
    /// What to run.
    pub plan: &'a Plan,
    /// Facts that are the same in all runs.
    pub versions: Facts,
    /// Ends bpftrace and Envoy.
    pub life: &'a Lifecycle,
}

impl Watch<'_> {
    /// Starts an Envoy while it is watched.
    ///
    /// # Errors
    /// If bpftrace or Envoy does not start.
    pub async fn start(
        &self,
        envoy: Option<&tools::Program>,
        story: &mut Recorder,
    ) -> anyhow::Result<Target> {
        let tracer = Tracer::start(&self.plan.bpftrace, Program::Listen, &[], self.life).await?;
        let target = self.plan.source.target(envoy, self.plan.stay, self.life).await?;
        let lines = tracer.stop().await?;
        let facts = Facts {
            envoy: target.version.clone(),
            pid: target.pid,
            started_by_us: true,
            direct: target.direct,
            workers: witness::workers(target.pid),
            listening: witness::listening(target.pid, target.listener_port),
            ..self.versions.clone()
        };
        self.judged(Program::Listen, &Recording { facts, lines }, story)?;
        Ok(target)
    }

    /// Runs the work under one program.
    ///
    /// # Errors
    /// If a witness breaks, or the workload does.
    pub async fn work(&self, program: Program, target: &Target) -> anyhow::Result<Recording> {
        let arguments = target.arguments(program);
        let workers = witness::workers(target.pid);
        let switches = || witness::switches(target.pid, workers.keys().copied());
        // All is read four times: bpftrace watches for less than between the outer two, for more than between the
        // inner.
        let outer = switches();
        let sent_again = witness::sent_again(target.pid);
        let counted_outer = witness::counted(&target.admin).await?;
        let turns_outer = if program == Program::Loop { witness::turns(&target.admin).await } else { None };
        let timed_before =
            if program == Program::Inside { witness::timed(&target.admin).await } else { None };
        let tracer = Tracer::start(&self.plan.bpftrace, program, &arguments, self.life).await?;
        let turns_inner =
            if program == Program::Loop { witness::turns_merged(&target.admin).await } else { None };
        let before = witness::counted(&target.admin).await?;
        let inner = switches();
        let resets = if program == Program::Trouble { RESETS } else { 0 };
        let done = match program {
            Program::Inside => workload::run_slowly(target.call).await,
            _ => workload::run(target.call, resets).await,
        };
        let mut sent = done.with_context(|| format!("the workload against {} failed", target.call))?;
        // Envoy notices the last close a moment after the client made it. Others may keep connections open, so those
        // that have ended are counted, not those that are left.
        let ours = sent.connections + sent.resets;
        let what = "Envoy to see every connection end";
        let counted = poll::wait_until(what, Duration::from_millis(5), LIMIT, || async {
            let now =
                witness::counted(&target.admin).await.map_err(|error| error.to_string())?.since(&before);
            if now.downstream_ended >= ours {
                Ok(now)
            } else {
                Err(format!("{} of {ours}", now.downstream_ended))
            }
        })
        .await?;
        let inner = witness::switches_since(switches(), &inner);
        // What Envoy merged last may lack some turns, but has none too many.
        let turns_least = match turns_inner {
            Some(then) => witness::turns_merged(&target.admin).await.map(|now| now.saturating_sub(then)),
            None => None,
        };
        let lines = tracer.stop().await?;
        let turns_most = match turns_outer {
            Some(then) => witness::turns_merged(&target.admin).await.map(|now| now.saturating_sub(then)),
            None => None,
        };
        let timed = match timed_before {
            Some(before) => witness::timed(&target.admin).await.map(|now| now.since(&before)),
            None => None,
        };
        if target.ours && program == Program::Inside {
            sent.backend_micros = sent.requests * u64::try_from(workload::WAIT.as_micros())?;
        }
        let outer = witness::switches_since(switches(), &outer);
        let counted_around = witness::counted(&target.admin).await?.since(&counted_outer);
        let sent_again =
            witness::sent_again(target.pid).zip(sent_again).map(|(now, then)| now.saturating_sub(then));
        target.alive()?;
        let facts = Facts {
            envoy: target.version.clone(),
            pid: target.pid,
            started_by_us: target.ours,
            direct: target.direct,
            workers,
            listening: witness::listening(target.pid, target.listener_port),
            sent,
            counted,
            counted_around,
            timed,
            sent_again,
            turns: turns_least.zip(turns_most),
            switches: inner,
            switches_around: outer,
            ..self.versions.clone()
        };
        Ok(Recording { facts, lines })
    }

    /// Keeps what was seen, if it shall be kept, and judges it.
    ///
    /// # Errors
    /// If it cannot be kept, or is not what bpftrace prints.
    pub fn judged(
        &self,
        program: Program,
        recording: &Recording,
        story: &mut Recorder,
    ) -> anyhow::Result<()> {
        if let Some(folder) = &self.plan.record {
            keep(folder, program, recording)?;
        }
        let trace = Trace::parse(recording.lines.iter().map(String::as_str))?;
        judge(program, &trace, &recording.facts, story);
        Ok(())
    }
}

fn keep(folder: &Path, program: Program, recording: &Recording) -> anyhow::Result<()> {
    let path = folder.join(format!("{}.jsonl", program.name()));
    std::fs::create_dir_all(folder).with_context(|| format!("no folder {}", folder.display()))?;
    std::fs::write(&path, recording.to_lines()?).with_context(|| format!("cannot write {}", path.display()))
}
