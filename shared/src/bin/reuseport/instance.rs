//! A server as a process of its own, started from this very program.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use shared::child::{self, Running};
use shared::cli::SetupError;
use shared::lifecycle::Lifecycle;
use shared::reuseport::ListenError;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};

/// How long a server may take to start; it takes some milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Instance {
    process: Running,
    pub(crate) address: SocketAddr,
    /// Held, so that it never writes to a pipe that nobody has.
    _stdout: BufReader<ChildStdout>,
}

impl Instance {
    /// Starts one, and returns once it listens.
    pub(crate) async fn start(name: &str, address: SocketAddr, life: &Lifecycle) -> anyhow::Result<Self> {
        let mut process = Running::start(command(name, address, &[])?, life, ()).await?;
        let mut stdout = BufReader::new(process.stdout().context("stdout is piped")?);
        let mut line = String::new();
        tokio::time::timeout(LIMIT, stdout.read_line(&mut line)).await.context("a server says nothing")??;
        if line.is_empty() && process.exited().await.and_then(|status| status.code()) == Some(2) {
            return Err(SetupError::new(ListenError::AddressInUse { address }).into());
        }
        let told = line.trim_end().rsplit_once(' ').and_then(|(_, address)| address.parse().ok());
        let address = told.with_context(|| format!("{name} did not start at {address}"))?;
        Ok(Self { process, address, _stdout: stdout })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Lets it do nothing from now on, as if it were busy: it does not even accept.
    pub(crate) fn suspend(&self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.pid().cast_signed()).context("a process has a number")?;
        Ok(kill_process(pid, Signal::STOP)?)
    }

    /// Ends it as a crash does.
    pub(crate) async fn kill(self) {
        self.process.kill().await;
    }
}

/// What a server says that ends at once, and its exit code.
pub(crate) async fn refused(
    name: &str,
    address: SocketAddr,
    flags: &[&str],
) -> anyhow::Result<(i32, String)> {
    let output = child::output(command(name, address, flags)?, LIMIT).await;
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => bail!("{name} {flags:?} could start"),
        output => output?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&said).to_owned();
    Ok((output.status.code().unwrap_or(-1), said))
}

fn command(name: &str, address: SocketAddr, flags: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["serve", "--instance", name, "--host", &host, "--port", &port]).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    // What a signal made it do is no news.
    command.env("RUST_LOG", "warn");
    Ok(command)
}
