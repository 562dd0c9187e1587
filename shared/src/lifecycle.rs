//! How everything stops: one token, one set of tasks, one grace period.
//!
//! ```text
//! StopSignals or the story's end
//!        │
//!        v
//! shut_down(grace) ── cancels the token ──> every task that watches it ends
//!        └── waits for all of them, at most `grace`
//! ```

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a demo waits for its tasks before it says that some hang.
pub const GRACE: Duration = Duration::from_secs(5);

/// A scope of tasks that stop together. Clones share the scope.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    token: CancellationToken,
    tasks: TaskTracker,
}

/// Tasks that did not end within the grace period; a task that ignores its token is a defect.
#[derive(Debug, thiserror::Error)]
#[error("{left} tasks still run {grace:?} after they were told to stop")]
pub struct ShutdownTimeout {
    left: usize,
    grace: Duration,
}

impl Lifecycle {
    /// The token that every endless loop of this scope has to watch.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// A scope that stops with this one, but can be stopped earlier by itself. This one's end waits for
    /// its tasks too.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn child(&self) -> Self {
        let child = Self { token: self.token.child_token(), tasks: TaskTracker::new() };
        let scope = child.clone();
        self.spawn(async move {
            scope.token.cancelled().await;
            scope.tasks.close();
            scope.tasks.wait().await;
        });
        child
    }

    /// Runs `task` in this scope; [`shut_down`](Self::shut_down) waits for it.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Tells every task to stop and waits until they have.
    ///
    /// # Errors
    /// [`ShutdownTimeout`] if some still run after `grace`.
    pub async fn shut_down(&self, grace: Duration) -> Result<(), ShutdownTimeout> {
        self.token.cancel();
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait())
            .await
            .map_err(|_| ShutdownTimeout { left: self.tasks.len(), grace })
    }
}

/// The signal that asked us to stop, and the exit code that says so (128 + its number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopSignal {
    /// The terminal was closed.
    #[error("hung up")]
    Hangup,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupt,
    /// Ctrl-\.
    #[error("quit")]
    Quit,
    /// `kill`, or a container engine's stop.
    #[error("terminated")]
    Terminate,
}

impl StopSignal {
    /// 129, 130, 131 or 143, as shells report a program that a signal ended.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Quit => 131,
            Self::Terminate => 143,
        }
    }
}

/// The signals that ask us to stop: SIGHUP, SIGINT, SIGQUIT and SIGTERM.
///
/// From [`install`](Self::install) on they are ours: none ends the process unseen, and none that comes while nobody
/// waits is lost. A SIGHUP that was ignored when we started stays ignored, as `nohup` wants it.
#[derive(Debug)]
pub struct StopSignals {
    hangup: Option<Signal>,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Takes the signals over. To be called before anything says that we are ready: whoever reads that may send one.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or if the operating system refuses a signal handler; nothing could be stopped
    /// cleanly then.
    pub fn install() -> Self {
        let take = |kind| signal(kind).expect("a process may handle the signals that ask it to stop");
        // Asked first: from the first handler on, nothing is ignored any more.
        let stays = is_ignored(SignalKind::hangup());
        Self {
            hangup: (!stays).then(|| take(SignalKind::hangup())),
            interrupt: take(SignalKind::interrupt()),
            quit: take(SignalKind::quit()),
            terminate: take(SignalKind::terminate()),
        }
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> StopSignal {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => _ = hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = hung_up => StopSignal::Hangup,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.quit.recv() => StopSignal::Quit,
            _ = self.terminate.recv() => StopSignal::Terminate,
        }
    }
}

/// Whether this process ignores the signal, as `nohup` arranges it before it starts a program. Only Linux tells.
fn is_ignored(signal: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored >> (signal.as_raw_value() - 1) & 1 == 1
}
