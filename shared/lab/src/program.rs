//! A function that a student wrote in Rust: compiled, asked, and judged by what it answers.
//!
//! ```text
//!   student's file ─┐
//!   harness ────────┼─ rustc ─> a program of its own ─ questions, a line each ─> answers, a line each
//!   frame ──────────┘             └─ a panic, an endless loop, or no answer is told with its question
//! ```
//!
//! The harness is the checker's: `pub fn answer(question: &str) -> String`, which reads a question, calls the
//! function as `crate::student::NAME`, and writes down what it returned. Only the standard library is there.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tokio::process::Command;

use super::{CheckContext, Requirement};
use shared::child;
use shared::cli::SetupError;

const STUDENT_MAIN: &str = include_str!("student_main.rs");

/// How long the compiler may take. It takes half a second, on a machine with nothing else to do.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(120);

/// How long all answers together may take. They take milliseconds.
const RUN_TIMEOUT: Duration = Duration::from_secs(5);

/// How much memory a program may use, in KiB. A program that needs more fails, and the machine does not run out of memory.
const MEMORY_LIMIT_KIB: u32 = 1 << 20;

/// What there is of a compiler's or a panic's words, in lines.
const LINES: usize = 14;

/// A student's function as a program.
#[derive(Debug)]
pub struct Program {
    folder: TempDir,
    file: String,
}

/// What the function is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// As the harness reads it.
    pub line: String,
    /// As a person reads it, if there is no answer.
    pub description: String,
}

/// There is no compiler.
#[derive(Debug, thiserror::Error)]
#[error("cannot run rustc ({why}): install Rust (https://rustup.rs), or name a compiler with $RUSTC")]
struct NoCompiler {
    why: io::Error,
}

impl Program {
    /// A command that takes up one question and need not come to its end: a function that serves. Whoever starts it
    /// bounds it. `name` tells it from others of this program that run at the same time.
    ///
    /// # Errors
    /// If the question cannot be written.
    pub fn long_running_command(&self, name: &str, question: &str) -> anyhow::Result<Command> {
        self.command(&format!("{name}.questions"), &format!("{name}.answers"), question)
    }

    fn command(&self, questions: &str, answers: &str, text: &str) -> anyhow::Result<Command> {
        std::fs::write(self.folder.path().join(questions), text).context("cannot write the questions")?;
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                &format!("ulimit -v {MEMORY_LIMIT_KIB} 2>/dev/null; exec ./check \"$@\""),
                "sh",
                questions,
                answers,
            ])
            .env("RUST_BACKTRACE", "0")
            .current_dir(self.folder.path());
        Ok(command)
    }
}

impl CheckContext {
    /// Compiles a student's file together with a harness.
    ///
    /// # Errors
    /// A [`Requirement`] with the compiler's words, if it does not compile.
    pub async fn compile(&mut self, file: &str, harness: &str) -> anyhow::Result<Program> {
        let text = self.text(file)?;
        let folder = tempfile::tempdir().context("no temporary folder to compile in")?;
        for (name, text) in [
            ("main.rs", STUDENT_MAIN.replace("STUDENT", file)),
            ("harness.rs", harness.to_owned()),
            (file, text),
        ] {
            std::fs::write(folder.path().join(name), text).context("cannot write into a temporary folder")?;
        }
        let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(compiler);
        command
            .args(["--edition=2024", "--crate-name=check", "--cap-lints=allow", "--color=never"])
            .args(["-o", "check", "main.rs"])
            // So that it names the file and no folder.
            .current_dir(folder.path());
        let compiled = match child::output(command, COMPILE_TIMEOUT).await {
            Ok(output) => output,
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                return Err(SetupError::new(NoCompiler { why }).into());
            }
            Err(error) => return Err(error).context("the compiler did not come to its end"),
        };
        let said = String::from_utf8_lossy(&compiled.stderr).into_owned();
        if compiled.status.success() {
            return Ok(Program { folder, file: file.to_owned() });
        }
        // What the compiler finds in a file has a place; without one it lacks a linker, or a disk with room.
        anyhow::ensure!(
            said.contains("--> "),
            "the compiler cannot work on this machine: {}",
            first_lines(&said)
        );
        let elsewhere = said.contains("--> harness.rs") || said.contains("--> main.rs");
        let advice = if elsewhere {
            "harness.rs is the checker's: it calls your function. Keep the names and types as they were given."
        } else {
            "The arrow shows the place."
        };
        let seen = first_lines(&said);
        Err(Requirement::unmet(format!("{file} compiles"), "a file that compiles", seen, advice).into())
    }

    /// Asks the function each question in turn; the answers are in the same order.
    ///
    /// # Errors
    /// A [`Requirement`] if it panics, ends, or takes longer than five seconds, with the question.
    pub async fn ask(&mut self, program: &Program, questions: &[Question]) -> anyhow::Result<Vec<String>> {
        let path = |name: &str| -> PathBuf { program.folder.path().join(name) };
        let lines: Vec<&str> = questions.iter().map(|question| question.line.as_str()).collect();
        _ = std::fs::remove_file(path("answers"));
        let command = program.command("questions", "answers", &lines.join("\n"))?;
        let ended = child::output(command, RUN_TIMEOUT).await;
        let answers = std::fs::read_to_string(path("answers")).unwrap_or_default();
        let mut answers: Vec<String> = answers.lines().map(str::to_owned).collect();
        let file = &program.file;
        let (seen, advice) = match ended {
            Ok(output) => {
                self.record_output(&String::from_utf8_lossy(&output.stdout));
                if output.status.success() && answers.len() >= questions.len() {
                    answers.truncate(questions.len());
                    return Ok(answers);
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                match panic(&said) {
                    Some(panic) => {
                        (format!("it panicked at {panic}"), "What was there that you did not expect?")
                    }
                    None => (
                        format!("it ended without an answer ({}) {}", output.status, first_lines(&said)),
                        "A function here returns a value, and leaves the process alone.",
                    ),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => (
                format!("it did not return within {RUN_TIMEOUT:?}, and was ended"),
                "Which loop has no end for these values?",
            ),
            Err(error) => return Err(error).context("the compiled program could not be run"),
        };
        let asked = questions.get(answers.len()).map_or("the end", |question| question.description.as_str());
        let what = format!("{file} answers");
        let seen = format!("asked for {asked}, {}", seen.trim_end());
        Err(Requirement::unmet(what, "an answer to each call", seen, advice).into())
    }
}

/// Place and message of a panic.
fn panic(said: &str) -> Option<String> {
    let (_, panic) = said.split_once(" panicked at ")?;
    let lines: Vec<&str> = panic.lines().take_while(|line| !line.starts_with("note:")).take(LINES).collect();
    Some(lines.join(" "))
}

fn first_lines(said: &str) -> String {
    said.trim().lines().take(LINES).collect::<Vec<_>>().join("\n")
}
