//! Why an Envoy that runs already cannot be watched. Does not know how that is found out.

use std::io;
use std::net::SocketAddr;

/// Wrong words about an Envoy that runs already: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is no such process.
    #[error("there is no process {pid}: `pgrep envoy` lists them")]
    NoProcess {
        /// The number.
        pid: u32,
    },
    /// None of its threads is called as Envoy's workers are.
    #[error(
        "process {pid} has no threads called wrk:worker_N, so it is no Envoy: `pgrep -x envoy` lists them"
    )]
    NotEnvoy {
        /// The number.
        pid: u32,
    },
    /// No process in it has such threads.
    #[error("no process of container {container} has threads called wrk:worker_N: is there an Envoy in it?")]
    NoEnvoyInside {
        /// Its name or id.
        container: String,
    },
    /// Its listener's own address means something else here than where it lives.
    #[error(
        "process {pid} lives in another network than we, as in a container: name its published port with --target"
    )]
    Elsewhere {
        /// Its process.
        pid: u32,
    },
    /// It does not answer as the workload needs it.
    #[error("{call} does not answer GET /hello over plain HTTP/1 with 200 and a content-length")]
    NoAnswer {
        /// Where we asked.
        call: SocketAddr,
        /// What it did.
        source: io::Error,
    },
    /// Its backends listen on several ports, and the programs go by one.
    #[error(
        "requests go to backends on ports {one}, {other} and perhaps more: only one port can be watched; try one that has the same for all, or bpf/accept.bt by hand"
    )]
    ManyPorts {
        /// The lowest port.
        one: u16,
        /// The next.
        other: u16,
    },
    /// It says nothing of a listener or a backend.
    #[error(
        "the Envoy at {admin} has no {what}: the workload needs an HTTP listener with a route to a cluster"
    )]
    NothingToCall {
        /// Its admin interface.
        admin: SocketAddr,
        /// What is missing.
        what: &'static str,
    },
}
