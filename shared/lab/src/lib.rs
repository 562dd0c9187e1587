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

mod tools;

mod bench;

mod config;

mod program;

mod exercise;

mod course;

mod folder;

mod memory;

mod examine;

mod verify;

mod tell;

mod command;

#[cfg(doc)]
use shared::lifecycle::Lifecycle;

pub use bench::Bench;
pub use command::{Args, Command, run};
pub use config::envoys_words;
pub use dice::Dice;
pub use examine::Outcome;
pub use exercise::{Check, Checking, Exercise, Lab};
pub use program::{Program, Question};
pub use requirement::{Requirement, sentence_says};
pub use tools::Tools;
pub use verify::Proof;
