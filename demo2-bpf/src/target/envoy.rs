//! A watched Envoy: its process, its addresses and its admin interface. Where it came from is not decided here.

use std::net::SocketAddr;

use anyhow::bail;
use shared::envoy::{Admin, AdminError, Serving};

use crate::program::Program;
use crate::reference;

/// A running Envoy and what the programs need to know about it.
#[derive(Debug)]
pub struct Target {
    /// Its process id in this machine's PID namespace.
    pub pid: u32,
    /// Its version, as its admin interface reports it.
    pub version: String,
    /// Its admin interface.
    pub admin: Admin,
    /// Where requests are sent.
    pub call: SocketAddr,
    /// The port of its listener, in its own network namespace.
    pub listener_port: u16,
    /// The port of its backend.
    pub backend_port: u16,
    /// The inode number of its network namespace.
    pub network: u64,
    /// Whether we started it.
    pub ours: bool,
    /// Whether a connection to [`call`](Self::call) ends at Envoy itself.
    pub direct: bool,
    /// Our own Envoy, which runs for as long as this value is held.
    pub(super) _envoy: Option<Serving>,
}

impl Target {
    /// Returns the command line arguments with which `program` watches this Envoy.
    pub fn arguments(&self, program: Program) -> Vec<String> {
        program.arguments(self.pid, self.listener_port, self.backend_port, self.network)
    }

    /// Checks that it still runs. It was found to be an Envoy when the watch began.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn check_alive(&self) -> anyhow::Result<()> {
        // The folder in /proc is not enough: it exists until the parent collects the exit code.
        if reference::worker_threads(self.pid).is_empty() {
            bail!("the Envoy that was watched (process {}) has ended", self.pid);
        }
        Ok(())
    }
}

/// Returns the address of the first listener.
pub(super) async fn listener(admin: &Admin) -> Result<Option<SocketAddr>, AdminError> {
    Ok(admin.listeners().await?.first().map(|listener| listener.address))
}
