#![doc = include_str!("../README.md")]
//!
//! Exercises that check themselves on the real thing.
//!
//! ```text
//!   lab/01-name/README.md              the task          start/      files that the student begins with
//!               hints.md               the hints         solution/   files that solve it
//!               expected-failure.txt   the message for   wrong/NAME/ files of a typical mistake, with the
//!                                      start/                        expected-failure.txt for them
//!
//!   start ──first `lab 1`──> work (the student's) ──copy──> CheckContext ──checker──> requirements ──> feedback
//! ```
//!
//! A checker is an async function over a [`CheckContext`]: a private copy of the files, a seeded choice of values, a
//! [`Lifecycle`] and the programs to run them with. It measures from outside what the files bring about, and never
//! reads them for what they say. What it finds is a list of [`Requirement`]s, each a sentence for the student.
//!
//! The student's files are copied from `start` once, and after that only read.
#![forbid(unsafe_code)]

mod requirement;

mod seeded_rng;

mod tools;

mod check_context;

mod config;

mod program;

mod exercise;

mod exercise_files;

mod folder;

mod workspace;

mod run_check;

mod verify;

mod output;

mod command;

#[cfg(doc)]
use shared::lifecycle::Lifecycle;

pub use check_context::CheckContext;
pub use command::{Args, Command, run};
pub use config::envoy_error_summary;
pub use exercise::{CheckFuture, Checker, Exercise, Lab};
pub use program::{Program, Question};
pub use requirement::{Requirement, matches_pattern};
pub use run_check::Outcome;
pub use seeded_rng::SeededRng;
pub use tools::Tools;
pub use verify::CaseResult;
