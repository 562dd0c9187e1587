//! The Envoy that is watched: ours as a process or in a container, or one that runs already.
//!
//! Knows what can be watched, and what is known of it then. How one of ours comes to run, how one that runs already is
//! found out, and what may be wrong with that one, is in the folder beside this file.

mod ours;

mod running;

mod error;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, bail};
use shared::cli::Unready;
use shared::envoy::{Admin, Serving};
use shared::lifecycle::Lifecycle;
use shared::tools::Program;

use crate::container;
use crate::program;
use crate::witness;

pub use error::NoTarget;
pub use ours::{CONFIG, PORTS, WORKERS, answer};
use ours::{in_container, process};
use running::running;

/// Which Envoy to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One that we start as a process.
    Process,
    /// One that we start in a container, on the host's network.
    Container,
    /// One that runs already.
    Pid {
        /// Its process.
        pid: u32,
        /// Its admin interface.
        admin: SocketAddr,
        /// Where to send requests; its first listener unless said.
        target: Option<SocketAddr>,
    },
    /// One that runs already in a container.
    Attach {
        /// The container's name or id.
        container: String,
        /// Its admin interface, as this machine reaches it.
        admin: SocketAddr,
        /// Where to send requests, as this machine reaches it.
        target: Option<SocketAddr>,
    },
}

/// An Envoy that is watched.
#[derive(Debug)]
pub struct Target {
    /// Its process, as this machine counts.
    pub pid: u32,
    /// Its version by its own words.
    pub version: String,
    /// Its admin interface.
    pub admin: Admin,
    /// Where requests are sent.
    pub call: SocketAddr,
    /// The port that it listens on itself.
    pub listener_port: u16,
    /// The port of its backend.
    pub backend_port: u16,
    /// The number of the network that it lives in.
    pub network: u64,
    /// Whether we started it.
    pub ours: bool,
    /// Whether a connection to [`call`](Self::call) ends at Envoy itself.
    pub direct: bool,
    _envoy: Option<Serving>,
}

impl Source {
    /// Whether we start it, so that its start can be watched.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Process | Self::Container)
    }

    /// Gets hold of it. One of ours gets the lab ports if it shall `stay`, else free ones.
    ///
    /// # Errors
    /// [`Unready`] if there is no such Envoy, or a lab port is taken; others if one of ours does not start.
    pub async fn target(
        &self,
        program: Option<&Program>,
        stay: bool,
        life: &Lifecycle,
    ) -> anyhow::Result<Target> {
        match self {
            Self::Process => process(program.context("no Envoy was looked for")?, stay, life).await,
            Self::Container => in_container(stay, life).await,
            Self::Pid { pid, admin, target } => {
                if !Path::new(&format!("/proc/{pid}")).exists() {
                    return Err(Unready::new(NoTarget::NoProcess { pid: *pid }).into());
                }
                if witness::workers(*pid).is_empty() {
                    return Err(Unready::new(NoTarget::NotEnvoy { pid: *pid }).into());
                }
                running(*pid, *admin, *target).await
            }
            Self::Attach { container, admin, target } => {
                let first = container::pid(container).await.map_err(Unready::new)?;
                // A script may be the container's first process, and Envoy its child.
                let inside = || Unready::new(NoTarget::NoEnvoyInside { container: container.clone() });
                running(witness::envoy_below(first).ok_or_else(inside)?, *admin, *target).await
            }
        }
    }
}

impl Target {
    /// What a program is told on the command line to watch it.
    pub fn arguments(&self, program: program::Program) -> Vec<String> {
        program.arguments(self.pid, self.listener_port, self.backend_port, self.network)
    }

    /// Fails if it has ended meanwhile; that it is an Envoy was seen at the beginning.
    ///
    /// # Errors
    /// If there is no such process any more.
    pub fn alive(&self) -> anyhow::Result<()> {
        // Not by its folder: that stays for as long as its parent does not ask for its exit code.
        if witness::workers(self.pid).is_empty() {
            bail!("the Envoy that was watched (process {}) has ended", self.pid);
        }
        Ok(())
    }
}

/// Where the first listener listens.
async fn listener(admin: &Admin) -> Result<Option<SocketAddr>, shared::envoy::AdminError> {
    Ok(admin.listeners().await?.first().map(|listener| listener.address))
}
