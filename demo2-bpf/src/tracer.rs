//! Running bpftrace: started, watching, its lines.
//!
//! ```text
//! Tracer::start ──knocks until READY──> Tracer ──stop(): SIGTERM until it ends──> lines
//! ```
//!
//! Ended by SIGTERM, bpftrace prints its maps. Killed, it leaves nothing attached: the kernel takes programs and
//! probes away with the process that holds them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use shared::child::Running;
use shared::lifecycle::Lifecycle;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::program::Program;
use crate::trace;

/// How long attaching may take. It takes about a second.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the end may take, with its maps printed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How often it is told to end: version 0.17 misses a signal that comes while it reads events.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often we knock.
const WAKE_INTERVAL: Duration = Duration::from_millis(10);

/// How much of a line, and of its complaints, is kept: in bytes.
const MAX_OUTPUT: u64 = 1 << 20;

/// Why bpftrace did not watch.
#[derive(Debug, thiserror::Error)]
pub enum TracerError {
    /// The system could not start it.
    #[error("cannot start {}: is it bpftrace?", program.display())]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended by itself.
    #[error("bpftrace ended by itself while it watched {name} ({status}); it said:\n{stderr_tail}")]
    Exited {
        /// Our program.
        name: &'static str,
        /// How.
        status: String,
        /// The last of what it said.
        stderr_tail: String,
    },
    /// It did not attach, or did not end.
    #[error("bpftrace with {name} did not {what} within {limit:?}; it said:\n{stderr_tail}")]
    Timeout {
        /// Our program.
        name: &'static str,
        /// What it should have done.
        what: &'static str,
        /// The time it had.
        limit: Duration,
        /// The last of what it said.
        stderr_tail: String,
    },
}

/// A bpftrace whose probes are all attached. Dropping it ends it, and so does its lifecycle.
#[derive(Debug)]
pub struct Tracer {
    name: &'static str,
    running: Running,
    lines: tokio::io::Lines<BufReader<tokio::io::Take<ChildStdout>>>,
    lines_read: Vec<String>,
    stderr_text: JoinHandle<String>,
}

impl Tracer {
    /// Starts `program` and returns when all of its probes are attached.
    ///
    /// # Errors
    /// [`TracerError`]; nothing is left running.
    pub async fn start(
        bpftrace: &Path,
        program: Program,
        arguments: &[String],
        life: &Lifecycle,
    ) -> Result<Self, TracerError> {
        Self::start_script(bpftrace, program.name(), program.source(), arguments, life).await
    }

    /// Starts the program with this name and this text, which says [`READY`](trace::READY), as all of ours do.
    ///
    /// # Errors
    /// As [`Tracer::start`].
    pub async fn start_script(
        bpftrace: &Path,
        name: &'static str,
        source: &str,
        arguments: &[String],
        life: &Lifecycle,
    ) -> Result<Self, TracerError> {
        let mut command = Command::new(bpftrace);
        command.args(["-f", "json", "-e", source]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let not_started = |source| TracerError::NotStarted { program: bpftrace.to_owned(), source };
        let mut running = Running::start(command, life, ()).await.map_err(not_started)?;
        let (Some(stdout), Some(stderr)) = (running.stdout(), running.stderr()) else {
            return Err(not_started(io::ErrorKind::BrokenPipe.into()));
        };
        let mut tracer = Self {
            name,
            running,
            lines: BufReader::new(stdout.take(64 * MAX_OUTPUT)).lines(),
            lines_read: Vec::new(),
            stderr_text: tokio::spawn(stderr_text(stderr)),
        };
        let limit = tokio::time::sleep(ATTACH_TIMEOUT);
        tokio::pin!(limit);
        loop {
            tokio::select! {
                line = tracer.lines.next_line() => match line {
                    Ok(Some(line)) if trace::is_ready(&line) => return Ok(tracer),
                    Ok(Some(line)) => tracer.lines_read.push(line),
                    Ok(None) | Err(_) => return Err(tracer.exit_error().await),
                },
                // The sleep of the standard library is the system call that the probes listen for.
                _ = tokio::task::spawn_blocking(|| std::thread::sleep(WAKE_INTERVAL)) => {}
                () = &mut limit => return Err(tracer.timeout_error("attach its probes", ATTACH_TIMEOUT).await),
            }
        }
    }

    /// Ends it, and returns what it printed, a JSON object a line.
    ///
    /// # Errors
    /// [`TracerError`]; nothing is left running.
    pub async fn stop(mut self) -> Result<Vec<String>, TracerError> {
        // Whoever is gone already printed no maps.
        if tokio::time::timeout(Duration::ZERO, self.running.exited()).await.is_ok() {
            return Err(self.exit_error().await);
        }
        let mut retry = tokio::time::interval(RETRY_INTERVAL);
        let limit = tokio::time::sleep(STOP_TIMEOUT);
        tokio::pin!(limit);
        loop {
            tokio::select! {
                biased;
                line = self.lines.next_line() => match line {
                    Ok(Some(line)) => self.lines_read.push(line),
                    Ok(None) | Err(_) => break,
                },
                _ = retry.tick() => self.request_stop(),
                () = &mut limit => return Err(self.timeout_error("end", STOP_TIMEOUT).await),
            }
        }
        match tokio::time::timeout(STOP_TIMEOUT, self.running.exited()).await {
            Ok(Some(status)) if status.success() => Ok(self.lines_read),
            Ok(_) => Err(self.exit_error().await),
            Err(_) => Err(self.timeout_error("end", STOP_TIMEOUT).await),
        }
    }

    /// Asks it to print its maps and end.
    ///
    /// Not by SIGINT: bpftrace heeds that once, and when it comes again while maps are printed it is killed by it,
    /// so that whoever is impatient can leave. SIGTERM may come any number of times.
    fn request_stop(&self) {
        // Its output is still open, so it has not been reaped, and the number is its own.
        if let Some(pid) = Pid::from_raw(self.running.pid().cast_signed()) {
            // The one possible failure is that it has just ended.
            _ = kill_process(pid, Signal::TERM);
        }
    }

    async fn exit_error(mut self) -> TracerError {
        let status = match tokio::time::timeout(STOP_TIMEOUT, self.running.exited()).await {
            Ok(Some(status)) => status.to_string(),
            _ => "exit status unknown".to_owned(),
        };
        let stderr_tail = self.stderr_tail().await;
        TracerError::Exited { name: self.name, status, stderr_tail }
    }

    async fn timeout_error(mut self, what: &'static str, limit: Duration) -> TracerError {
        let name = self.name;
        self.running.kill().await;
        let stderr_tail = self.stderr_tail().await;
        TracerError::Timeout { name, what, limit, stderr_tail }
    }

    /// The last lines of its complaints, without the one that means nothing.
    async fn stderr_tail(&mut self) -> String {
        let stderr_tail = tokio::time::timeout(STOP_TIMEOUT, &mut self.stderr_text).await;
        let stderr_tail = stderr_tail.ok().and_then(Result::ok).unwrap_or_default();
        let lines: Vec<&str> = stderr_tail.lines().filter(|line| !line.contains("RLIMIT_MEMLOCK")).collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

async fn stderr_text(stderr: ChildStderr) -> String {
    let mut stderr_tail = Vec::new();
    // What was read before an error is still worth showing.
    _ = stderr.take(MAX_OUTPUT).read_to_end(&mut stderr_tail).await;
    String::from_utf8_lossy(&stderr_tail).into_owned()
}
