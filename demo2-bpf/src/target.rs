//! The Envoy that is watched: ours as a process or in a container, or one that runs already.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use http::StatusCode;
use shared::cli::{self, Unready};
use shared::envoy::admin::Cluster;
use shared::envoy::{Admin, Envoy, Serving};
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::ports;
use shared::tools::Program;
use shared::web;
use tokio::net::TcpListener;

use crate::container;
use crate::program;
use crate::witness;
use crate::workload;

/// Envoy's configuration.
pub const CONFIG: &str = include_str!("../envoy/envoy.yaml");

/// The ports in it, for listener, admin interface and backend.
pub const PORTS: [&str; 3] = ["12000", "12001", "12002"];

/// How many workers our own Envoy has.
pub const WORKERS: u16 = 2;

const READY: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
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

/// Wrong words about an Envoy that runs already: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum NoTarget {
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

/// The text of the configuration with these ports.
fn config(listener: u16, admin: u16, backend: u16) -> String {
    let ports = [listener, admin, backend];
    PORTS.iter().zip(ports).fold(CONFIG.to_owned(), |text, (lab, port)| {
        text.replace(&format!("port_value: {lab}"), &format!("port_value: {port}"))
    })
}

/// Answers everything with a few bytes, and after [`workload::WAIT`] if it is asked to be slow.
pub fn answer(listener: TcpListener, life: &Lifecycle) {
    web::serve(listener, life, |request| async move {
        if request.uri().query() == Some("slow") {
            // It stands for work, and is what the demo measures.
            tokio::time::sleep(workload::WAIT).await;
        }
        web::text(StatusCode::OK, "hello\n")
    });
}

/// Holds a port of this machine's loopback: the lab's if it shall stay, else any free one.
async fn port(lab: u16, stay: bool) -> anyhow::Result<TcpListener> {
    Ok(cli::listen_lab((Ipv4Addr::LOCALHOST, if stay { lab } else { 0 }).into()).await?)
}

async fn backend(stay: bool, life: &Lifecycle) -> anyhow::Result<u16> {
    let listener = port(ports::DEMO2_BACKEND, stay).await?;
    let port = listener.local_addr()?.port();
    answer(listener, life);
    Ok(port)
}

async fn process(program: &Program, stay: bool, life: &Lifecycle) -> anyhow::Result<Target> {
    let backend_port = backend(stay, life).await?;
    let (mut listener_port, mut admin_port) = (0, 0);
    if stay {
        // Tried first: of a taken port Envoy tells in its log only.
        listener_port = port(ports::DEMO2_ENVOY, stay).await?.local_addr()?.port();
        admin_port = port(ports::DEMO2_ADMIN, stay).await?.local_addr()?.port();
    }
    let envoy = Envoy::new(program, config(listener_port, admin_port, backend_port)).concurrency(WORKERS);
    let envoy = envoy.start(life).await?.ready(READY).await?;
    let admin = *envoy.admin();
    let call = listener(&admin).await?.context("our Envoy has no listener")?;
    Ok(Target {
        pid: envoy.pid(),
        version: witness::version(&admin).await?,
        admin,
        call,
        listener_port: call.port(),
        backend_port,
        network: witness::network(envoy.pid())?,
        ours: true,
        direct: true,
        _envoy: Some(envoy),
    })
}

async fn in_container(stay: bool, life: &Lifecycle) -> anyhow::Result<Target> {
    let backend_port = backend(stay, life).await?;
    // An admin interface on port 0 could not be found from outside.
    let (listener, admin) = (port(ports::DEMO2_ENVOY, stay).await?, port(ports::DEMO2_ADMIN, stay).await?);
    let (listener_port, admin_port) = (listener.local_addr()?.port(), admin.local_addr()?.port());
    drop((listener, admin));
    let pid = container::start(config(listener_port, admin_port, backend_port), WORKERS, life).await?;
    let admin = Admin::new((Ipv4Addr::LOCALHOST, admin_port).into());
    poll::wait_until("the container's Envoy", LOOK, READY, || admin.ready()).await?;
    let call = (Ipv4Addr::LOCALHOST, listener_port).into();
    let network = witness::network(pid)?;
    Ok(Target {
        pid,
        version: witness::version(&admin).await?,
        admin,
        call,
        listener_port,
        backend_port,
        network,
        ours: true,
        direct: true,
        _envoy: None,
    })
}

async fn running(pid: u32, admin: SocketAddr, target: Option<SocketAddr>) -> anyhow::Result<Target> {
    let nothing = |what| Unready::new(NoTarget::NothingToCall { admin, what });
    let interface = Admin::new(admin);
    let listens = listener(&interface).await.map_err(Unready::new)?;
    let listens = listens.ok_or_else(|| nothing("listener"))?;
    let own = SocketAddr::new(
        if listens.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listens.ip() },
        listens.port(),
    );
    let network = witness::network(pid).with_context(|| format!("cannot look into process {pid}"))?;
    // An address is the same one only where the network is: 127.0.0.1 of a container is its own.
    let here = network == witness::network(std::process::id())?;
    let call = target.or(here.then_some(own)).ok_or_else(|| Unready::new(NoTarget::Elsewhere { pid }))?;
    let backend_port = port_behind(&interface, call).await?;
    Ok(Target {
        pid,
        version: witness::version(&interface).await.map_err(Unready::new)?,
        admin: interface,
        call,
        listener_port: listens.port(),
        backend_port,
        network,
        ours: false,
        direct: here && call == own,
        _envoy: None,
    })
}

/// The port of the backends that our requests go to: those of the cluster that counts one when we send one. The
/// first cluster in the list would be a guess; it may be that of a control plane.
async fn port_behind(admin: &Admin, call: SocketAddr) -> anyhow::Result<u16> {
    let before = admin.clusters().await.map_err(Unready::new)?;
    let refused = |source| Unready::new(NoTarget::NoAnswer { call, source });
    workload::once(call).await.map_err(refused)?;
    let after = admin.clusters().await.map_err(Unready::new)?;
    let moved = after.iter().filter(|now| {
        let then = before.iter().find(|then| then.name == now.name);
        then.is_none_or(|then| requests(now) > requests(then))
    });
    let ports: BTreeSet<u16> =
        moved.flat_map(|cluster| &cluster.hosts).map(|host| host.address.port()).collect();
    let mut ports = ports.into_iter();
    match (ports.next(), ports.next()) {
        (Some(port), None) => Ok(port),
        (None, _) => {
            let what = "backend that counts requests";
            Err(Unready::new(NoTarget::NothingToCall { admin: admin.address(), what }).into())
        }
        (Some(one), Some(other)) => Err(Unready::new(NoTarget::ManyPorts { one, other }).into()),
    }
}

fn requests(cluster: &Cluster) -> u64 {
    cluster.hosts.iter().filter_map(|host| host.stats.get("rq_total")).sum()
}

/// Where the first listener listens.
async fn listener(admin: &Admin) -> Result<Option<SocketAddr>, shared::envoy::AdminError> {
    Ok(admin.listeners().await?.first().map(|listener| listener.address))
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
