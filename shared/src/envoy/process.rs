//! Running Envoy: configured -> started -> serving.
//!
//! ```text
//! Envoy ──start()──> Started ──ready(limit)──> Serving ──stop()──> gone
//!                       │                         │
//!                       └── drop, or the lifecycle's end: gone too
//! ```
//!
//! Each type can do only what makes sense in its state; there is no admin interface to ask before Envoy has
//! said where it is. Knows nothing about what the configuration says.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;

use super::admin::Admin;
use crate::child::Running;
use crate::lifecycle::Lifecycle;
use crate::poll::{self, TimedOut};
use crate::temp_folder::TempFolder;

/// How often a starting Envoy is asked whether it is ready. It takes 0.2 to 0.4 s as a rule.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How many of its last lines an error shows.
const LOG_TAIL_LINES: usize = 20;

/// Why Envoy does not serve.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// There is no folder for its log.
    #[error("no temporary folder for Envoy's log: is $TMPDIR writable?")]
    Folder(#[source] io::Error),
    /// The system could not start the program.
    #[error("cannot start {}: is it an Envoy for this machine?", program.display())]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended by itself, most often because it refused its configuration; the log says why.
    #[error("Envoy ended before it was ready ({status}); its log ends with:\n{log}")]
    ExitedEarly {
        /// Exit status, or the signal that ended it.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// It runs, but was not ready in time; it has been killed.
    #[error("Envoy is not ready, is its control plane there? Its log ends with:\n{log}")]
    NotReady {
        /// How long we waited, and what Envoy answered last.
        source: TimedOut,
        /// The last lines of its log.
        log: String,
    },
}

/// A configured Envoy, not yet started.
#[derive(Clone, Debug)]
pub struct Envoy {
    program: PathBuf,
    config: String,
    concurrency: u16,
    drain_time: Option<Duration>,
}

impl Envoy {
    /// `program` with this configuration: the text of a [`Bootstrap`](super::Bootstrap), or any other that
    /// Envoy takes by `--config-yaml` and that has an admin interface.
    pub fn new(program: impl AsRef<Path>, config: impl Into<String>) -> Self {
        Self { program: program.as_ref().to_owned(), config: config.into(), concurrency: 1, drain_time: None }
    }

    /// How many worker threads share its connections: 1 unless set.
    #[must_use]
    pub fn concurrency(mut self, workers: u16) -> Self {
        self.concurrency = workers;
        self
    }

    /// How long connections of a listener that was replaced or removed may live on, in whole seconds: ten minutes
    /// unless set.
    #[must_use]
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.drain_time = Some(time);
        self
    }

    /// Starts it in the scope of `life`, with which it ends at the latest.
    ///
    /// # Errors
    /// [`EnvoyError::Folder`], [`EnvoyError::NotStarted`].
    pub async fn start(&self, life: &Lifecycle) -> Result<Started, EnvoyError> {
        // The log may show what other users of the machine should not see.
        let folder = Arc::new(TempFolder::new("mesh-envoy-").map_err(EnvoyError::Folder)?);
        let log = File::create(log_file(&folder)).map_err(EnvoyError::Folder)?;
        let more_log = log.try_clone().map_err(EnvoyError::Folder)?;
        let mut command = Command::new(&self.program);
        command
            // With hot restart two Envoys collide over shared memory, and leave it behind.
            .arg("--disable-hot-restart")
            .args(["-l", "warning"])
            .args(["--concurrency", &self.concurrency.to_string()])
            .arg("--admin-address-path")
            .arg(address_file(&folder))
            .args(["--config-yaml", &self.config])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(more_log);
        if let Some(time) = self.drain_time {
            command.args(["--drain-time-s", &time.as_secs().max(1).to_string()]);
        }
        let running = Running::start(command, life, Arc::clone(&folder)).await;
        let running =
            running.map_err(|source| EnvoyError::NotStarted { program: self.program.clone(), source })?;
        Ok(Started { running, folder })
    }
}

/// A started Envoy, which may still be reading its configuration or waiting for its control plane.
#[derive(Debug)]
pub struct Started {
    running: Running,
    folder: Arc<TempFolder>,
}

impl Started {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits until it is ready: it has its first configuration, and its listeners accept connections.
    ///
    /// # Errors
    /// [`EnvoyError::ExitedEarly`], or [`EnvoyError::NotReady`] after `limit`. Either way nothing is left running.
    pub async fn ready(self, limit: Duration) -> Result<Serving, EnvoyError> {
        let ready = poll::wait_until("Envoy to be ready", POLL_INTERVAL, limit, || self.check_ready());
        let ready = tokio::select! {
            ready = ready => ready,
            status = self.running.exited() => {
                return Err(EnvoyError::ExitedEarly {
                    status: status.map_or("exit status unknown".to_owned(), |status| status.to_string()),
                    log: log_tail(&self.folder),
                });
            }
        };
        match ready {
            Ok(admin) => Ok(Serving { admin, running: self.running, folder: self.folder }),
            Err(source) => {
                self.running.kill().await;
                let log = log_tail(&self.folder);
                Err(EnvoyError::NotReady { source, log })
            }
        }
    }

    /// Its admin interface, as soon as it has said where it is: before it is ready, which may be never.
    ///
    /// # Errors
    /// [`TimedOut`] after `limit`.
    pub async fn admin(&self, limit: Duration) -> Result<Admin, TimedOut> {
        let check_ready = || std::future::ready(self.address());
        poll::wait_until("Envoy's admin address", POLL_INTERVAL, limit, check_ready).await.map(Admin::new)
    }

    fn address(&self) -> Result<SocketAddr, String> {
        // Half a file is possible for a moment, and is no address.
        let written = fs::read_to_string(address_file(&self.folder)).unwrap_or_default();
        written.trim().parse().map_err(|_| "no admin address".to_owned())
    }

    /// Checks once whether Envoy has written its admin address and reports `LIVE`.
    async fn check_ready(&self) -> Result<Admin, String> {
        let admin = Admin::new(self.address()?);
        admin.ready().await.map_err(|error| error.to_string())?;
        Ok(admin)
    }
}

/// An Envoy that is ready. Dropping it kills it; [`stop`](Self::stop) is the polite way.
#[derive(Debug)]
pub struct Serving {
    admin: Admin,
    running: Running,
    folder: Arc<TempFolder>,
}

impl Serving {
    /// Its admin interface.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The last lines of its log, for an error message.
    pub fn log_tail(&self) -> String {
        log_tail(&self.folder)
    }

    /// Where its log is, for as long as this value lives.
    pub fn log(&self) -> PathBuf {
        log_file(&self.folder)
    }

    /// Waits for its end, whatever brings it about. `None` if the system could not tell how it ended.
    pub async fn exited(&self) -> Option<ExitStatus> {
        self.running.exited().await
    }

    /// Ends it at once with SIGKILL, as a crash would. It is gone when this returns.
    pub async fn kill(self) -> Option<ExitStatus> {
        self.running.kill().await
    }

    /// Ends it: SIGTERM, and SIGKILL if it is still there after [`STOP_TIMEOUT`](crate::child::STOP_TIMEOUT). It is
    /// gone when this returns; so is its log.
    pub async fn stop(self) -> Option<ExitStatus> {
        self.running.stop().await
    }
}

fn log_file(folder: &TempFolder) -> PathBuf {
    folder.path().join("envoy.log")
}

fn address_file(folder: &TempFolder) -> PathBuf {
    folder.path().join("admin-address")
}

/// The log's last lines, from its last 16 KiB: with `-l trace` it grows without bound.
fn log_tail(folder: &TempFolder) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut log = File::open(log_file(folder))?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(16 << 10)))?;
        let mut end = Vec::new();
        log.read_to_end(&mut end)?;
        Ok(end)
    };
    let end = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = text.lines().collect();
    match lines.len() {
        0 => "(the log is empty)".to_owned(),
        count => lines[count.saturating_sub(LOG_TAIL_LINES)..].join("\n"),
    }
}
