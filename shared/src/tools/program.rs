//! A program that was found, and how it is run while it is checked or installed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tokio::process::Command;

/// A program that exists and has run once, which showed that it is the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path.
    pub path: PathBuf,
    /// The version that it prints: `1.40.0`.
    pub version: String,
    /// How it was found.
    pub source: Source,
}

impl AsRef<Path> for Program {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// How a [`Program`] was found, in the order in which the places are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The user chose it: `--envoy` or `$ENVOY`.
    Chosen,
    /// It was on `PATH`.
    Path,
    /// An earlier run had installed it.
    Cache,
    /// This run installed it.
    Installed,
}

/// Returns the last `count` lines of what a program printed, for an error message.
pub(super) fn tail(printed: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(printed);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Builds a command with our `PATH`, so that the programs that it starts are looked up in the same folders.
pub(super) fn command(program: impl AsRef<OsStr>, path: Option<&OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command
}
