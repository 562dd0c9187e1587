#![doc = include_str!("../README.md")]
//!
//! Exercises that check themselves on the real thing.
//!
//! ```text
//!   lab/01-name/README.md   the task          start/    the files as given
//!               hints.md    a way up to it    solution/ files that solve it
//!               says.txt    what start fails with      wrong/NAME/  files, and says.txt: what they fail with
//!
//!   start ──first `lab 1`──> work (the student's) ──copy──> Bench ──checker──> requirements ──> feedback
//! ```
//!
//! A checker is an async function over a [`Bench`]: a private copy of the files, a seeded choice of values, a
//! [`Lifecycle`] and the programs to run them with. It measures from outside what the files bring about, and never
//! reads them for what they say. What it finds is a list of [`Requirement`]s, each a sentence for the student.
//!
//! The student's files are copied from `start` once, and after that only read.
#![forbid(unsafe_code)]

mod requirement;

mod dice;

mod bench;

mod config;

mod program;

mod course;

mod folder;

mod memory;

mod examine;

mod verify;

mod tell;

mod command;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

#[cfg(doc)]
use shared::lifecycle::Lifecycle;

pub use bench::Bench;
pub use command::{Args, Command, run};
pub use config::envoys_words;
pub use dice::Dice;
pub use examine::{Outcome, Tools};
pub use program::{Program, Question};
pub use requirement::{Requirement, sentence_says};
pub use verify::Proof;

/// The exercises of one crate.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The crate, as `cargo run -p` names it.
    pub demo: &'static str,
    /// How its command is called up to the word `lab`: `cargo run -p demo4-lb --`.
    pub command: &'static str,
    /// The folder with the exercises.
    pub folder: PathBuf,
    /// The exercises, from easy to hard.
    pub exercises: Vec<Exercise>,
}

/// One exercise: a folder, and the function that judges what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Exercise {
    /// Its folder in [`Lab::folder`]: `01-localities`.
    pub folder: &'static str,
    /// Its checker.
    pub check: Check,
}

/// A checker. It notes requirements in the bench; an error that is a [`Requirement`] ends the check as one that is
/// not met, and any other error is the machine's or the checker's own fault.
pub type Check = for<'a> fn(&'a mut Bench) -> Checking<'a>;

/// A check under way.
pub type Checking<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;
