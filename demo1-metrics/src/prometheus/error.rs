//! Why Prometheus cannot be used, and how to install one.

use std::io;
use std::path::PathBuf;

use shared::client::ClientError;

/// How to install a Prometheus.
pub const INSTALL_HINT: &str = "Debian, Ubuntu: apt-get install prometheus; macOS: brew install prometheus; elsewhere unpack a \
                          release from https://prometheus.io/download in .tools/; $PROMETHEUS names one";

/// Prometheus is missing, does not start or does not answer a query.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// The chosen program does not run.
    #[error("{} is no Prometheus that runs here ({INSTALL_HINT})", .0.display())]
    Unusable(PathBuf),
    /// The system cannot create a folder for its data.
    #[error("no temporary folder for Prometheus' data: is $TMPDIR writable?")]
    Folder(#[source] io::Error),
    /// The system could not start it.
    #[error("cannot start {}", path.display())]
    NotStarted {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended, or was not ready in time.
    #[error("Prometheus is not ready ({why}); its log ends with:\n{log}")]
    NotReady {
        /// The last failed attempt.
        why: String,
        /// The last lines of its log.
        log: String,
    },
    /// The HTTP request failed.
    #[error(transparent)]
    NoResponse(#[from] ClientError),
    /// It rejected the query.
    #[error("Prometheus refused `{query}`: {why}")]
    QueryRejected {
        /// The PromQL.
        query: String,
        /// The reason in its response.
        why: String,
    },
}
