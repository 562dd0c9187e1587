//! A student's bpftrace program under way, and what it leaves.
//!
//! What is wrong with it is told to the student; what this machine lacks is not the student's fault, and no verdict.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use mesh_lab::{CheckContext, Requirement};
use shared::cli::SetupError;
use shared::envoy::Admin;
use shared::poll;

use crate::doctor;
use crate::trace::Trace;
use crate::tracer::{Tracer, TracerError};
use crate::witness;

/// The bpftrace of the command line. Checkers are plain functions without such an argument, so it is kept here.
static BPFTRACE: OnceLock<PathBuf> = OnceLock::new();

/// How long Envoy may take to have counted everything.
const LIMIT: Duration = Duration::from_secs(20);

/// Put around a program, on no lines of its own: both ends hear the tracer's knock, and then it says READY.
const BEFORE: &str = "tracepoint:syscalls:sys_enter_clock_nanosleep /!@lab_first/ { @lab_first = 1; } ";
const AFTER: &str = "\ntracepoint:syscalls:sys_exit_clock_nanosleep /!@lab_last/ { @lab_last = 1; }\n\
    interval:ms:50 /@lab_first && @lab_last && !@lab_ready/ { @lab_ready = 1; printf(\"READY\\n\"); }\n";

/// This machine cannot run what there is to check.
#[derive(Debug, thiserror::Error)]
#[error(
    "this exercise watches the kernel, and this machine cannot: {obstacle}; `demo2-bpf doctor` tells more"
)]
struct CannotCheck {
    obstacle: String,
}

/// A program that is attached.
pub(super) struct Watching {
    file: &'static str,
    tracer: Tracer,
}

/// Makes every check run this bpftrace. The first call decides; later ones change nothing.
pub(super) fn use_bpftrace(path: &Path) {
    BPFTRACE.get_or_init(|| path.to_owned());
}

/// Fails, as unready, where no program could watch.
pub(super) async fn can_watch() -> anyhow::Result<()> {
    let checks = doctor::run_check(bpftrace()).await;
    match doctor::obstacle(&checks) {
        None => Ok(()),
        Some(obstacle) => Err(SetupError::new(CannotCheck { obstacle }).into()),
    }
}

/// Attaches the student's program.
pub(super) async fn watch(
    bench: &CheckContext,
    file: &'static str,
    arguments: &[String],
) -> anyhow::Result<Watching> {
    let source = framed(&bench.text(file)?);
    let tracer = Tracer::watch(bpftrace(), file, &source, arguments, &bench.life).await;
    Ok(Watching { file, tracer: tracer.map_err(|error| blame(file, error))? })
}

impl Watching {
    /// Ends it, and reads its maps.
    pub(super) async fn maps(self) -> anyhow::Result<Trace> {
        let file = self.file;
        let lines = self.tracer.stop().await.map_err(|error| blame(file, error))?;
        let trace = Trace::parse(lines.iter().map(String::as_str)).map_err(|error| {
            let advice = "Maps hold numbers here: count(), sum(), max(), hist(). A text may be a key.";
            let seen = format!("In what {file} left is more: {error}");
            Requirement::unmet(format!("{file} leaves numbers"), "maps of numbers", seen, advice)
        })?;
        if trace.lost > 0 {
            let seen = format!("The kernel lost {} events of {file}", trace.lost);
            let advice = "Somebody has to read each printf. Count in maps, and print at the end.";
            let what = format!("{file} keeps up");
            return Err(Requirement::unmet(what, "none that is lost", seen, advice).into());
        }
        Ok(trace)
    }
}

/// Waits until Envoy has seen every connection from a client end.
pub(super) async fn all_ended(admin: &Admin) -> anyhow::Result<()> {
    let ended =
        poll::wait_until("Envoy to see every connection end", Duration::from_millis(5), LIMIT, || async {
            match witness::open(admin).await {
                Ok(0) => Ok(()),
                Ok(open) => Err(format!("{open} open")),
                Err(error) => Err(error.to_string()),
            }
        });
    Ok(ended.await?)
}

fn bpftrace() -> &'static Path {
    BPFTRACE.get().map_or(Path::new("bpftrace"), |path| path)
}

/// The program with our two ends. Its lines keep their numbers: ours stands in place of the line for the shell.
fn framed(text: &str) -> String {
    let rest = match text.strip_prefix("#!") {
        Some(shebang) => shebang.find('\n').map_or("", |end| &shebang[end..]),
        None => text,
    };
    // An `#include` has to begin its line.
    let joint = if rest.starts_with('#') { "\n" } else { "" };
    format!("{BEFORE}{joint}{rest}{AFTER}")
}

fn blame(file: &str, error: TracerError) -> anyhow::Error {
    match error {
        TracerError::NotStarted { .. } => SetupError::new(error).into(),
        TracerError::Ended { said, status, .. } => {
            let seen = if said.is_empty() {
                format!("{file} ended by itself ({status})")
            } else {
                format!("bpftrace refuses {file}:\n{}", said.replace("stdin:", "line "))
            };
            let advice =
                "The numbers are line and column. A program runs until it is stopped, and needs no exit().";
            Requirement::unmet(format!("{file} runs"), "a program that runs", seen, advice).into()
        }
        TracerError::Late { what, limit, said, .. } => {
            let seen = format!("{file} did not {what} within {limit:?} {said}");
            let advice = "Name the few tracepoints that you need: thousands take their time.";
            Requirement::unmet(format!("{file} runs"), "a program that attaches", seen.trim_end(), advice)
                .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framed_program_keeps_the_numbers_of_its_lines() {
        let framed = framed("#!/usr/bin/env bpftrace\n// two\nBEGIN { }\n");
        assert_eq!(framed.lines().nth(2), Some("BEGIN { }"));
    }
}
