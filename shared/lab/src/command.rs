//! The `lab` subcommand of every demo: list, do, hint, watch, grade, prove.
//!
//! Knows what a student is told. The flags are in `args.rs`, and what a grader and a teacher ask for in `grade.rs`.

mod args;

mod grade;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::folder::fingerprint;
use super::output;
use super::workspace::{State, Workspace};
use super::{Exercise, Lab, Outcome, SeededRng, Tools};
use shared::cli::{self, SetupError};
use shared::lifecycle::{GRACE, Lifecycle, StopSignals};
use shared::report::line_out;

use args::Instructor;
pub use args::{Args, Command};

/// How often a watched folder is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// There is no exercise of this number.
#[derive(Debug, thiserror::Error)]
#[error("there is no exercise {number}: `{command} lab` lists them, 1 to {last}")]
struct NoExercise {
    number: usize,
    command: &'static str,
    last: usize,
}

/// The exercises are files beside the sources, and these are gone.
#[derive(Debug, thiserror::Error)]
#[error("the exercises are not in {}: run this from a checkout of the sources", folder.display())]
struct NoFolder {
    folder: PathBuf,
}

/// A course under way: the exercises, a student's desk, and what checks need.
struct Session<'a> {
    lab: &'a Lab,
    workspace: Workspace,
    seed: u32,
    tools: Tools,
    life: &'a Lifecycle,
}

/// Does what the `lab` subcommand was asked for, and returns the exit code. Nothing is left running.
pub async fn run(lab: &Lab, args: &Args) -> ExitCode {
    let common = match &args.instructor {
        Some(Instructor::Verify { common, .. }) => common,
        None => &args.common,
    };
    cli::init_logs(common.verbose);
    let mut signals = StopSignals::install();
    let life = Lifecycle::default();
    let mut session = Session {
        lab,
        workspace: Workspace::new(lab, args.work.as_deref()),
        seed: common.seed.unwrap_or_else(SeededRng::seed),
        tools: Tools::new(common.envoy.clone()),
        life: &life,
    };
    let done = tokio::select! {
        biased;
        signal = signals.next() => Err(signal.into()),
        done = session.dispatch(args) => done,
    };
    let stopped = life.shut_down(GRACE).await.map_err(anyhow::Error::from);
    match done.and_then(|solved| stopped.map(|()| solved)) {
        Ok(solved) => ExitCode::from(u8::from(!solved)),
        Err(error) => {
            cli::print_error(&error);
            ExitCode::from(cli::exit_code_of(&error))
        }
    }
}

impl Session<'_> {
    async fn dispatch(&mut self, args: &Args) -> anyhow::Result<bool> {
        if !self.lab.folder.is_dir() {
            return Err(SetupError::new(NoFolder { folder: self.lab.folder.clone() }).into());
        }
        if let Some(Instructor::Verify { number, .. }) = args.instructor {
            number.map(|number| self.exercise(number)).transpose()?;
            return self.verify(number).await;
        }
        match args.number {
            None if args.json => self.grade_all().await,
            None => self.list(),
            Some(number) => {
                let exercise = self.exercise(number)?;
                if args.hint {
                    self.hint(&exercise)
                } else if args.json {
                    self.grade(number, &exercise).await
                } else {
                    self.show_task(number, &exercise)?;
                    if args.watch {
                        self.watch(number, &exercise).await
                    } else {
                        self.check(number, &exercise).await
                    }
                }
            }
        }
    }

    fn exercise(&self, number: usize) -> anyhow::Result<Exercise> {
        let none = || {
            let (command, last) = (self.lab.command, self.lab.exercises.len());
            SetupError::new(NoExercise { number, command, last })
        };
        Ok(*self.lab.number(number).ok_or_else(none)?)
    }

    fn list(&self) -> anyhow::Result<bool> {
        line_out(&format!("Exercises of {}, from easy to hard:\n", self.lab.demo));
        for (at, exercise) in self.lab.exercises.iter().enumerate() {
            let (title, state) = (self.lab.title(exercise)?, self.workspace.state(self.lab, exercise));
            line_out(&format!("  {:2}  {:<50}  {}", at + 1, title, state.text()));
        }
        let command = self.lab.command;
        line_out(&format!(
            "\n`{command} lab 1` tells the task and checks your files; `--hint` helps, `--watch` stays."
        ));
        Ok(true)
    }

    fn hint(&mut self, exercise: &Exercise) -> anyhow::Result<bool> {
        let hints = self.lab.hints(exercise)?;
        let at = self.workspace.next_hint(exercise, hints.len());
        let hint = hints.get(at).map_or("There is none.", String::as_str);
        line_out(&format!("Hint {} of {}: {hint}", at + 1, hints.len()));
        if at + 1 >= hints.len() {
            line_out("\nThat was the last one.");
        }
        Ok(true)
    }

    /// The task, and where its files are; lays them out the first time.
    fn show_task(&self, number: usize, exercise: &Exercise) -> anyhow::Result<()> {
        let before = self.workspace.state(self.lab, exercise);
        let work = self.workspace.begin(self.lab, exercise)?;
        line_out(&format!("Exercise {number} of {}\n", self.lab.exercises.len()));
        line_out(self.lab.task(exercise)?.trim_end());
        let names: Vec<_> =
            super::folder::files(&work)?.iter().map(|file| file.display().to_string()).collect();
        let begun = if before == State::NotBegun { "Laid out for you" } else { "Your files" };
        line_out(&format!("\n{begun}: {} in {}", names.join(", "), output::path(&work)));
        Ok(())
    }

    /// Checks the work as it is now, and remembers what came of it.
    async fn outcome(&mut self, exercise: &Exercise) -> anyhow::Result<Outcome> {
        let work = self.workspace.work(self.lab, exercise);
        let before = fingerprint(&work)?;
        let outcome = exercise.run_check(&[&work], self.seed, &self.tools, self.life).await?;
        self.workspace.checked(exercise, &before, outcome.solved());
        Ok(outcome)
    }

    async fn check(&mut self, number: usize, exercise: &Exercise) -> anyhow::Result<bool> {
        line_out(&format!("\nChecking, with seed {}:\n", self.seed));
        let outcome = self.outcome(exercise).await?;
        output::outcome(&outcome);
        let unmet = outcome.requirements.iter().filter(|one| !one.met).count();
        let command = self.lab.command;
        line_out("");
        match unmet {
            0 => line_out(&format!("Exercise {number} is solved, in {:.1} s.", outcome.seconds)),
            _ => line_out(&format!(
                "Not solved yet: {unmet} of {} requirements not met. `{command} lab {number} --hint` helps; \
                 `--seed {}` checks with the same values.",
                outcome.requirements.len(),
                self.seed
            )),
        }
        for broke in self.regressions(number).await? {
            line_out(&format!("\nExercise {} broke, which you had solved: {}", broke.number, broke.title));
            output::outcome(&broke.outcome);
        }
        Ok(outcome.solved())
    }

    async fn watch(&mut self, number: usize, exercise: &Exercise) -> anyhow::Result<bool> {
        let work = self.workspace.work(self.lab, exercise);
        loop {
            let now = fingerprint(&work).ok();
            if self.check(number, exercise).await? {
                return Ok(true);
            }
            line_out("\nWaiting for you to save; Ctrl-C ends it.");
            // An editor may take a file away for a moment before it puts the new one in its place.
            while fingerprint(&work).ok().is_none_or(|new| Some(new) == now) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }
}
