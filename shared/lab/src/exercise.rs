//! An exercise and the list of a crate's exercises, as plain data.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use crate::check_context::CheckContext;
#[cfg(doc)]
use crate::requirement::Requirement;

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

/// One exercise: a folder, and the function that checks its files.
#[derive(Clone, Copy, Debug)]
pub struct Exercise {
    /// Its folder in [`Lab::folder`]: `01-localities`.
    pub folder: &'static str,
    /// Its checker.
    pub check: Checker,
}

/// A checker. It notes requirements in the bench. An error that is a [`Requirement`] ends the check as an unmet requirement;
/// any other error is a fault of the machine or of the checker.
pub type Checker = for<'a> fn(&'a mut CheckContext) -> CheckFuture<'a>;

/// A running check.
pub type CheckFuture<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;
