//! What one run of this demo does, as plain data.
//!
//! The command line fills a [`Plan`]; the scenario and the runs of the programs read it.

use std::path::PathBuf;

use crate::program::Program;
use crate::target::Source;

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The Envoy to use; found or installed if `None`.
    pub envoy: Option<PathBuf>,
    /// The path or the name of bpftrace.
    pub bpftrace: PathBuf,
    /// Which Envoy to watch.
    pub source: Source,
    /// Whether to use the lab ports, because everything stays up after the run.
    pub stay: bool,
    /// Whether to judge the recorded run and start nothing.
    pub replay: bool,
    /// The only program to run; all of them if `None`.
    pub program: Option<Program>,
    /// The folder that keeps the recordings, if they are kept.
    pub record: Option<PathBuf>,
}
