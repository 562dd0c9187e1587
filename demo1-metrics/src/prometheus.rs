//! A Prometheus of our own: found, configured, started, asked.
//!
//! ```text
//! find ──> Program ──start(watch)──> Prometheus ──api()──> instant, range ──> numbers
//! ```
//!
//! Knows Prometheus' command line and its HTTP interface; of the mesh only its alert rules and where each job's page
//! is. It keeps its data in a folder of its own, which goes with it; a Prometheus that the system runs as a service is
//! left alone.

mod error;

mod find;

mod config;

mod api;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use shared::child::Running;
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::temp_folder::TempFolder;
use tokio::process::Command;

pub use api::{Api, Series, seconds};
pub use config::{EVERY, Target, Watch};
pub use error::{PrometheusError, REMEDY};
pub use find::{Program, find};

/// The alert rules.
pub const ALERTS: &str = include_str!("../prometheus/alerts.yaml");

const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// How many lines of its log an error shows.
const LINES: usize = 10;

/// A running Prometheus. Dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    api: Api,
    running: Running,
    folder: Arc<TempFolder>,
}

impl Prometheus {
    /// Starts it at this address, with what it is to watch, and waits until it takes questions.
    ///
    /// # Errors
    /// [`PrometheusError`]; nothing is left running.
    pub async fn start(
        program: &Program,
        at: SocketAddr,
        watch: &Watch<'_>,
        life: &Lifecycle,
    ) -> Result<Self, PrometheusError> {
        let folder = Arc::new(TempFolder::new("mesh-prometheus-").map_err(PrometheusError::Folder)?);
        let file = |name: &str| folder.path().join(name);
        let write =
            |name: &str, text: &str| std::fs::write(file(name), text).map_err(PrometheusError::Folder);
        write("prometheus.yaml", &config::config(watch))?;
        write("alerts.yaml", watch.rules)?;
        let log = std::fs::File::create(file("log")).map_err(PrometheusError::Folder)?;
        let mut command = Command::new(&program.path);
        command
            .arg("--config.file")
            .arg(file("prometheus.yaml"))
            .arg("--storage.tsdb.path")
            .arg(file("data"))
            .args(["--web.listen-address", &at.to_string(), "--log.level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let running = Running::start(command, life, Arc::clone(&folder)).await;
        let running =
            running.map_err(|source| PrometheusError::NotStarted { path: program.path.clone(), source })?;
        let prometheus = Self { api: Api::new(at), running, folder };
        let ready = poll::wait_until("Prometheus to be ready", LOOK, READY, || prometheus.api.ready());
        let why = tokio::select! {
            ready = ready => match ready {
                Ok(()) => return Ok(prometheus),
                Err(error) => error.to_string(),
            },
            status = prometheus.running.exited() => {
                status.map_or_else(|| "it ended".to_owned(), |status| format!("it ended: {status}"))
            }
        };
        prometheus.running.kill().await;
        Err(PrometheusError::NotReady { why, log: log_tail(&prometheus.folder) })
    }

    /// Where it is asked.
    pub fn api(&self) -> &Api {
        &self.api
    }
}

fn log_tail(folder: &TempFolder) -> String {
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
