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

use crate::doctor;
use crate::facts::{Facts, Recording};
use crate::judge::judge;
use crate::plan::Plan;
use crate::program::Program;
use crate::target::{Source, Target};
use crate::trace::Trace;
use crate::watch::Watch;

/// This machine cannot watch its kernel, and a recorded run is no answer to what was asked: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error(
    "this machine cannot watch its kernel: {obstacle}; `demo2-bpf doctor` tells more, --replay judges a recorded run"
)]
pub struct CannotWatch {
    /// What is in the way, and the remedy.
    obstacle: String,
}

/// What stays up after the story.
#[derive(Debug)]
pub struct Watched {
    target: Option<Target>,
}

/// Tells the whole story, live or from recordings.
///
/// # Errors
/// If something breaks; a claim that does not hold is no error, and a machine that cannot watch its kernel is none.
pub async fn run(plan: &Plan, story: &mut Recorder, life: &Lifecycle) -> anyhow::Result<Watched> {
    let programs: Vec<Program> =
        Program::ALL.into_iter().filter(|one| plan.program.is_none_or(|only| only == *one)).collect();
    if plan.replay {
        replay(&programs, story)?;
        return Ok(Watched { target: None });
    }
    let checks = doctor::run_check(&plan.bpftrace).await;
    if let Some(obstacle) = doctor::obstacle(&checks) {
        // Whoever asks for a certain Envoy, or for a recording, is not served with what another one did.
        if plan.source != Source::Process || plan.record.is_some() {
            return Err(SetupError::new(CannotWatch { obstacle }).into());
        }
        story.note(format!("this machine cannot watch its kernel: {obstacle}"));
        story.note("so what follows is judged from a recorded run; `demo2-bpf doctor` tells more");
        replay(&programs, story)?;
        return Ok(Watched { target: None });
    }
    Ok(Watched { target: Some(live(plan, &programs, story, life).await?) })
}

/// Judges what a real run left, and says so on stderr too: whoever reads JSON may not look at versions.
fn replay(programs: &[Program], story: &mut Recorder) -> anyhow::Result<()> {
    line_err("what follows is judged from a recorded run, not from this machine");
    for (number, program) in programs.iter().enumerate() {
        let recording = Recording::parse(program.recorded())?;
        let facts = &recording.facts;
        if number == 0 {
            story.version("replay of", &format!("{} on Linux {}", facts.date, facts.kernel));
            story.version("bpftrace", &facts.bpftrace);
            story.version("envoy", &facts.envoy);
        }
        story.step(&format!("{} ({}.bt, recorded)", program.question(), program.name()));
        let trace = Trace::parse(recording.lines.iter().map(String::as_str))?;
        judge(*program, &trace, facts, story);
    }
    Ok(())
}

async fn live(
    plan: &Plan,
    programs: &[Program],
    story: &mut Recorder,
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
    story.version("bpftrace", &versions.bpftrace);
    if let Some(envoy) = &envoy {
        story.version("envoy", &envoy.version);
    }
    let watch = Watch { plan, versions, life };
    let title = |program: Program| format!("{} ({}.bt)", program.question(), program.name());
    let mut rest = programs;
    let target = if programs.first() == Some(&Program::Listen)
        && plan.source.is_ours()
        && doctor::lack(Program::Listen).is_none()
    {
        rest = &programs[1..];
        story.step(&title(Program::Listen));
        watch.start(envoy.as_ref(), story).await?
    } else {
        plan.source.target(envoy.as_ref(), plan.stay, life).await?
    };
    if envoy.is_none() {
        story.version("envoy", &target.version);
    }
    for program in rest {
        story.step(&title(*program));
        if let Some(why) = doctor::lack(*program) {
            story.not_checked(program.name(), program.question(), "all that it counts", why);
            continue;
        }
        if *program == Program::Listen {
            story.not_checked(
                "listen-reuseport",
                "Envoy makes one listening socket a worker, all on one port",
                "sockets made at its start",
                "this Envoy ran before it was watched",
            );
            continue;
        }
        // An Envoy that ends midway breaks this or that; why it broke is what a person needs to know.
        let recording = watch.work(*program, &target).await;
        let recording = recording.map_err(|error| target.alive().err().unwrap_or(error))?;
        watch.judged(*program, &recording, story)?;
    }
    Ok(target)
}

impl LiveEnvironment for Watched {
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
