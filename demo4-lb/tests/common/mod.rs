//! A role as a real process: its address read from its first line, ended with the test.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use shared::poll::wait_until;

pub(crate) const BACKEND: &str = env!("CARGO_BIN_EXE_demo4-backend");
pub(crate) const CONTROL_PLANE: &str = env!("CARGO_BIN_EXE_demo4-control-plane");
pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_demo4-client");

/// How often a test looks.
pub(crate) const OFTEN: Duration = Duration::from_millis(5);

/// How long a test waits for what should take milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Role {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Role {
    pub(crate) fn backend(args: &[&str]) -> Self {
        Self::start(BACKEND, args)
    }

    pub(crate) fn control_plane(args: &[&str]) -> Self {
        Self::start(CONTROL_PLANE, args)
    }

    fn start(program: &str, args: &[&str]) -> Self {
        let mut child =
            command(program).args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        let Some(address) = address else {
            _ = child.kill();
            panic!("the first line names no address: {line:?}");
        };
        Self { child, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        wait_until("the process to end", OFTEN, LIMIT, || {
            std::future::ready(match self.child.try_wait() {
                Ok(Some(status)) => Ok(status),
                other => Err(format!("{other:?}")),
            })
        })
        .await
        .unwrap()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The program with none of the variables that it reads.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in [
        "LISTEN",
        "NAME",
        "LOCALITY",
        "SHUTDOWN_DELAY",
        "TARGET",
        "COUNT",
        "RATE",
        "CONTROL_PLANE",
        "SPLIT",
        "ENVOY_LISTEN",
        "ENDPOINTS",
        "RETRIES",
        "XDS_LOG",
        "METRICS",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    command(program).args(args).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
