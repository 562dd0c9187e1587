//! The Envoy that is watched: ours as a process or in a container, or one that runs already.
//!
//! This file chooses between them. The folder beside it holds what is known about a watched Envoy (`watched`), how ours
//! starts (`ours`), how a running one is inspected (`running`), and the errors (`error`).

mod error;

mod watched;

mod ours;

mod running;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use shared::cli::SetupError;
use shared::lifecycle::Lifecycle;
use shared::tools::Program;

use crate::container;
use crate::witness;

pub use error::NoTarget;
pub use ours::{CONFIG, PORTS, WORKERS, answer};
use ours::{in_container, process};
use running::running;
pub use watched::Target;

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

impl Source {
    /// Whether we start it, so that its start can be watched.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Process | Self::Container)
    }

    /// Gets hold of it. One of ours gets the lab ports if it shall `stay`, else free ones.
    ///
    /// # Errors
    /// [`SetupError`] if there is no such Envoy, or a lab port is taken; others if one of ours does not start.
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
                    return Err(SetupError::new(NoTarget::NoProcess { pid: *pid }).into());
                }
                if witness::workers(*pid).is_empty() {
                    return Err(SetupError::new(NoTarget::NotEnvoy { pid: *pid }).into());
                }
                running(*pid, *admin, *target).await
            }
            Self::Attach { container, admin, target } => {
                let first = container::pid(container).await.map_err(SetupError::new)?;
                // A script may be the container's first process, and Envoy its child.
                let inside = || SetupError::new(NoTarget::NoEnvoyInside { container: container.clone() });
                running(witness::envoy_below(first).ok_or_else(inside)?, *admin, *target).await
            }
        }
    }
}
