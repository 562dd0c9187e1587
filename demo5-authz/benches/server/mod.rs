//! A server as a process of its own, which is asked from outside, and whose CPU and memory the kernel tells.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use demo5_authz::issuer::Issuer;

/// A server that listens. It ends with this value.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a program whose first line ends with the address where it listens. It may use the folder.
    pub(crate) fn start(mut command: Command, folder: tempfile::TempDir) -> anyhow::Result<Self> {
        let program = command.get_program().to_owned();
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default().parse();
        let address = address.with_context(|| format!("{} said {line:?}", program.display()))?;
        Ok(Self { child, address, _folder: folder })
    }

    /// The authorizer, which believes this issuer.
    pub(crate) fn authorizer(issuer: &Issuer, log: bool) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let jwks = folder.path().join("jwks.json");
        std::fs::write(&jwks, issuer.jwks())?;
        let decisions = if log { folder.path().join("decisions.jsonl") } else { "none".into() };
        let mut command = Command::new(env!("CARGO_BIN_EXE_demo5-authz-server"));
        command
            .args(["--listen", "127.0.0.1:0", "--jwks"])
            .arg(jwks)
            .arg("--policies")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"))
            .arg("--decision-log")
            .arg(decisions)
            .env("RUST_LOG", "error");
        Self::start(command, folder)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CPU time that it has used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        shared::cpu::cpu_time(self.child.id()).context("the server has no CPU time: is it gone?")
    }

    /// The most memory that it ever had, in bytes.
    pub(crate) fn rss(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib << 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
