//! Other programs as children that cannot outlive us.
//!
//! ```text
//! caller ── Command ──> keeper thread ── fork, "kill me if my parent dies", exec ──> program
//!                        (lives as long as this process)
//! Running ── stop() / drop / lifecycle cancelled ──> owner task ── SIGTERM, SIGKILL, reap
//! ```
//!
//! Linux ends a child together with its parent if the child asks for it (`PR_SET_PDEATHSIG`), but takes
//! the *thread* that forked for the parent. A tokio worker thread or a test's thread may end early and
//! would take the program with it, so one thread that never ends does all the forking.
//!
//! Knows nothing about what it runs: when a program is ready, and what its output means, is for
//! the modules that use this one.

mod running;

use std::io;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use running::{Running, STOP_TIMEOUT};

/// How much of a program's output [`output`] keeps, in bytes of each stream; the rest is read and dropped.
const KEPT: u64 = 1 << 20;

/// A child with everything that it started in its own process group; dropping it kills the group.
///
/// A group of its own also keeps the terminal's Ctrl-C away from the child: we are told, and then
/// stop things in an order that makes sense.
#[derive(Debug)]
pub struct Child {
    inner: tokio::process::Child,
}

impl Child {
    /// The process id; `None` once it has been reaped.
    pub fn pid(&self) -> Option<u32> {
        self.inner.id()
    }

    /// Its standard input, if it was piped and not taken before.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.inner.stdin.take()
    }

    /// Its standard output, if it was piped and not taken before.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.inner.stdout.take()
    }

    /// Its standard error, if it was piped and not taken before.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.inner.stderr.take()
    }

    /// Waits until the child has ended, and reaps it.
    ///
    /// # Errors
    /// If the system cannot tell, because something else reaped the child.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.inner.wait().await
    }

    /// Sends `signal` to the whole group; nothing happens once the child has been reaped.
    pub fn signal(&self, signal: Signal) {
        // A child that was not reaped keeps its number, so that this cannot hit a stranger.
        if let Some(group) = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            // The one possible failure is that the whole group has ended already.
            _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Starts `command` so that it ends when this process does, however that ends.
///
/// On Linux the program gets SIGKILL when this process dies; a program may choose a gentler signal for
/// itself, as Envoy does with SIGTERM. What the program started in turn is not reached by that signal. Other systems have no such request: there a `kill -9` of
/// this process leaves the program running.
///
/// # Errors
/// What the system said when it could not start the program.
pub async fn spawn(mut command: Command) -> io::Result<Child> {
    command.kill_on_drop(true).process_group(0);
    #[cfg(target_os = "linux")]
    die_with_parent(&mut command);
    let (reply, spawned) = oneshot::channel();
    keeper()?
        .send(Request { command, runtime: Handle::try_current().map_err(io::Error::other)?, reply })
        .map_err(io::Error::other)?;
    spawned.await.map_err(io::Error::other)?
}

/// Runs `command` to its end, for at most `limit`, and returns what it printed (the first MiB).
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] if it was still running after `limit` and had to be killed; otherwise what
/// the system said when it could not start the program or read from it.
pub async fn output(mut command: Command, limit: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command).await?;
    let (stdout, stderr) = (child.stdout(), child.stderr());
    let running = async {
        let (stdout, stderr, status) = tokio::try_join!(read(stdout), read(stderr), child.wait())?;
        Ok(Output { status, stdout, stderr })
    };
    let ended = tokio::time::timeout(limit, running).await;
    match ended {
        Ok(output) => output,
        Err(_) => {
            child.signal(Signal::KILL);
            child.wait().await?;
            Err(io::ErrorKind::TimedOut.into())
        }
    }
}

/// Reads a stream to its end, so that the writer never blocks, and keeps the beginning.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(KEPT).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

struct Request {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The way to the keeper thread, which is started at the first call.
fn keeper() -> io::Result<mpsc::Sender<Request>> {
    static KEEPER: Mutex<Option<mpsc::Sender<Request>>> = Mutex::new(None);
    let mut keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = keeper.as_ref() {
        return Ok(sender.clone());
    }
    let (sender, requests) = mpsc::channel::<Request>();
    std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
        // Ends with the process: the sender in KEEPER is never dropped.
        for mut request in requests {
            // tokio registers the child with the caller's runtime, which reaps it.
            let _entered = request.runtime.enter();
            let child = spawn_patiently(&mut request.command);
            // A caller that no longer waits has dropped its end; so does the child then, and is killed.
            _ = request.reply.send(child);
        }
    })?;
    Ok(keeper.insert(sender).clone())
}

/// Starts the command, and again if its file is still open for writing.
///
/// We may have written the file ourselves a moment ago: a fork at that moment, from any thread, inherits
/// the open file for the short time until its own exec.
fn spawn_patiently(command: &mut Command) -> io::Result<Child> {
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < 100 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            spawned => return spawned.map(|inner| Child { inner }),
        }
    }
}

/// Makes the child ask for SIGKILL at its parent's death, before it becomes the program.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    use rustix::process::{getpid, getppid, set_parent_process_death_signal};
    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died just before we asked; then nobody would ever tell us.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    #[expect(
        unsafe_code,
        reason = "only code between fork and exec can close the gap before the program asks by itself"
    )]
    // SAFETY: `ask` makes two system calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(ask);
    }
}
