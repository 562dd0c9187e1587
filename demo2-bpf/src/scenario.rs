//! The story: one program after the other watches the same known work, and is held against a second witness.
//!
//! ```text
//!   bpftrace ──READY──> count (Envoy, /proc) ──> 23 connections ──> count again ──> SIGTERM ─> maps
//!                                                                                     │
//!                              judge(trace, facts) <──────────────────────────────────┘
//! ```
//!
//! What a run is judged by can be kept, and judged again elsewhere: that is a replay.

use shared::cli::{LiveEnvironment, SetupError};
use shared::lifecycle::Lifecycle;
use shared::report::{Recorder, line_err};
use shared::tools;

use crate::compare::compare;
use crate::doctor;
use crate::facts::{Facts, Recording};
use crate::plan::Plan;
use crate::program::Program;
use crate::runner::Runner;
use crate::target::{Source, Target};
use crate::trace::Trace;

/// This machine cannot watch its kernel, and a recorded run is no answer to what was asked: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error(
    "this machine cannot watch its kernel: {blocking_problem}; `demo2-bpf doctor` tells more, --replay judges a recorded run"
)]
pub struct CannotTrace {
    /// What is in the way, and the remedy.
    blocking_problem: String,
}

/// What stays up after the story.
#[derive(Debug)]
pub struct RunningTarget {
    target: Option<Target>,
}

/// Tells the whole story, live or from recordings.
///
/// # Errors
/// If something breaks; a claim that does not hold is no error, and a machine that cannot watch its kernel is none.
pub async fn run(plan: &Plan, recorder: &mut Recorder, life: &Lifecycle) -> anyhow::Result<RunningTarget> {
    let programs: Vec<Program> =
        Program::ALL.into_iter().filter(|one| plan.program.is_none_or(|only| only == *one)).collect();
    if plan.replay {
        replay(&programs, recorder)?;
        return Ok(RunningTarget { target: None });
    }
    let checks = doctor::run_checks(&plan.bpftrace).await;
    if let Some(blocking_problem) = doctor::blocking_problem(&checks) {
        // Whoever asks for a certain Envoy, or for a recording, is not served with what another one did.
        if plan.source != Source::Process || plan.record.is_some() {
            return Err(SetupError::new(CannotTrace { blocking_problem }).into());
        }
        recorder.note(format!("this machine cannot watch its kernel: {blocking_problem}"));
        recorder.note("so what follows is judged from a recorded run; `demo2-bpf doctor` tells more");
        replay(&programs, recorder)?;
        return Ok(RunningTarget { target: None });
    }
    Ok(RunningTarget { target: Some(live(plan, &programs, recorder, life).await?) })
}

/// Judges what a real run left, and says so on stderr too: whoever reads JSON may not look at versions.
fn replay(programs: &[Program], recorder: &mut Recorder) -> anyhow::Result<()> {
    line_err("what follows is judged from a recorded run, not from this machine");
    for (number, program) in programs.iter().enumerate() {
        let recording = Recording::parse(program.recorded())?;
        let facts = &recording.facts;
        if number == 0 {
            recorder.version("replay of", &format!("{} on Linux {}", facts.date, facts.kernel));
            recorder.version("bpftrace", &facts.bpftrace);
            recorder.version("envoy", &facts.envoy);
        }
        recorder.step(&format!("{} ({}.bt, recorded)", program.question(), program.name()));
        let trace = Trace::parse(recording.lines.iter().map(String::as_str))?;
        compare(*program, &trace, facts, recorder);
    }
    Ok(())
}

async fn live(
    plan: &Plan,
    programs: &[Program],
    recorder: &mut Recorder,
    life: &Lifecycle,
) -> anyhow::Result<Target> {
    let envoy = match plan.source {
        Source::Process => Some(tools::envoy(plan.envoy.as_deref()).await.map_err(SetupError::new)?),
        _ => None,
    };
    let versions = Facts {
        date: time::OffsetDateTime::now_utc().date().to_string(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        bpftrace: doctor::bpftrace_version(&plan.bpftrace).await.unwrap_or_default(),
        ..Facts::default()
    };
    recorder.version("bpftrace", &versions.bpftrace);
    if let Some(envoy) = &envoy {
        recorder.version("envoy", &envoy.version);
    }
    let runner = Runner { plan, versions, life };
    let title = |program: Program| format!("{} ({}.bt)", program.question(), program.name());
    let mut rest = programs;
    let target = if programs.first() == Some(&Program::Listen)
        && plan.source.starts_envoy()
        && doctor::missing_for(Program::Listen).is_none()
    {
        rest = &programs[1..];
        recorder.step(&title(Program::Listen));
        runner.start(envoy.as_ref(), recorder).await?
    } else {
        plan.source.target(envoy.as_ref(), plan.stay, life).await?
    };
    if envoy.is_none() {
        recorder.version("envoy", &target.version);
    }
    for program in rest {
        recorder.step(&title(*program));
        if let Some(why) = doctor::missing_for(*program) {
            recorder.not_checked(program.name(), program.question(), "all that it counts", why);
            continue;
        }
        if *program == Program::Listen {
            recorder.not_checked(
                "listen-reuseport",
                "Envoy makes one listening socket a worker, all on one port",
                "sockets made at its start",
                "this Envoy ran before it was watched",
            );
            continue;
        }
        // An Envoy that ends midway breaks this or that; why it broke is what a person needs to know.
        let recording = runner.run(*program, &target).await;
        let recording = recording.map_err(|error| target.check_alive().err().unwrap_or(error))?;
        runner.record_and_compare(*program, &recording, recorder)?;
    }
    Ok(target)
}

impl LiveEnvironment for RunningTarget {
    fn instructions(&self) -> String {
        let Some(target) = &self.target else {
            return "Nothing runs: this was a recorded run. Ctrl-C ends.".to_owned();
        };
        let Target { pid, call, admin, listener_port, backend_port, network, .. } = target;
        format!(
            "The Envoy stays up until Ctrl-C. Try, from another terminal:\n\
             \n  sudo bpftrace demo2-bpf/bpf/accept.bt {pid}\
             \n  sudo bpftrace demo2-bpf/bpf/states.bt {listener_port} {backend_port} {network}\
             \n  curl -s http://{call}/hello\
             \n  curl -s 'http://{}/stats?filter=downstream_cx_total'\n",
            admin.address()
        )
    }
}
