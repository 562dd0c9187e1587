//! A program that a lifecycle ends.
//!
//! One task owns the child and is the only one that signals and reaps it, so that a signal never meets a
//! process number that already belongs to somebody else. Whoever holds the [`Running`] asks that task.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{ChildStderr, ChildStdout, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Child, spawn};
use crate::lifecycle::Lifecycle;

/// How long a program may take to end after SIGTERM before it is killed. Shorter than
/// [`GRACE`](crate::lifecycle::GRACE), so that a stubborn program does not make its lifecycle overdue.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// A program that runs until it ends by itself, is stopped, is dropped, or its lifecycle is over.
///
/// A task of the lifecycle owns the child, so that
/// [`Lifecycle::shut_down`] waits until the program is gone.
#[derive(Debug)]
pub struct Running {
    pid: u32,
    stop: CancellationToken,
    kill: CancellationToken,
    exit: watch::Receiver<Option<ExitStatus>>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Running {
    /// Starts `command` in the scope of `life`. `keep` is held until the program is gone: a
    /// temporary folder that it writes to, for example. Use `()` if there is nothing.
    ///
    /// # Errors
    /// What the system said when it could not start the program.
    pub async fn start(command: Command, life: &Lifecycle, keep: impl Send + 'static) -> io::Result<Self> {
        let mut child = spawn(command).await?;
        // Nobody can have reaped it: that happens in `wait` only.
        let pid = child.pid().ok_or(io::ErrorKind::NotFound)?;
        let (stdout, stderr) = (child.stdout(), child.stderr());
        let (report, exit) = watch::channel(None);
        // Ours to cancel without the rest of the scope, and cancelled with it.
        let stop = life.token().child_token();
        let kill = CancellationToken::new();
        let (stopping, killing) = (stop.clone(), kill.clone());
        life.spawn(async move {
            let status = own(&mut child, &stopping, &killing).await;
            drop(child);
            drop(keep);
            match status {
                Ok(status) => _ = report.send(Some(status)),
                Err(error) => tracing::warn!(pid, %error, "a child's end was lost"),
            }
        });
        Ok(Self { pid, stop, kill, exit, stdout, stderr })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its standard output, if it was piped and not taken before.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// Its standard error, if it was piped and not taken before.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.stderr.take()
    }

    /// Waits for its end, whatever brings it about. `None` if the system could not tell how it ended.
    pub async fn exited(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        exit.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// Ends it: SIGTERM, and SIGKILL if it is still there after [`STOP_TIMEOUT`]. It is gone when this returns.
    pub async fn stop(&self) -> Option<ExitStatus> {
        self.stop.cancel();
        self.exited().await
    }

    /// Ends it at once with SIGKILL. It is gone when this returns.
    pub async fn kill(&self) -> Option<ExitStatus> {
        self.kill.cancel();
        self.exited().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

/// Waits for the child's end, and brings it about when told to.
async fn own(
    child: &mut Child,
    stop: &CancellationToken,
    kill: &CancellationToken,
) -> io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        () = kill.cancelled() => {}
        () = stop.cancelled() => {
            child.signal(Signal::TERM);
            tokio::select! {
                status = child.wait() => return status,
                () = kill.cancelled() => {}
                () = tokio::time::sleep(STOP_TIMEOUT) => {}
            }
        }
    }
    child.signal(Signal::KILL);
    child.wait().await
}
