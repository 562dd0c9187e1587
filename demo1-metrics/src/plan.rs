//! What one run of this demo does, as plain data.
//!
//! The command line fills a [`Plan`]; the scenario reads it.

use std::path::PathBuf;

/// The settings of one run.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The Envoy to use; found or installed if `None`.
    pub envoy: Option<PathBuf>,
    /// The Prometheus to use; found if `None`.
    pub prometheus: Option<PathBuf>,
    /// Whether to run without Prometheus even if there is one.
    pub without_prometheus: bool,
    /// The folder for drawings of the dashboard's panels, if they are drawn.
    pub pictures: Option<PathBuf>,
    /// Whether to use the lab ports, because everything stays up after the run.
    pub stay: bool,
}
