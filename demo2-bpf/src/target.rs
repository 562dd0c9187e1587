//! The Envoy that is watched: ours as a process or in a container, or one that runs already.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use http::StatusCode;
use shared::cli::{self, Unready};
use shared::envoy::{Admin, Envoy, Serving};
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::ports;
use shared::tools::Program;
use shared::web;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::program;
use crate::witness;

/// Envoy's configuration.
pub const CONFIG: &str = include_str!("../envoy/envoy.yaml");

/// The ports in it, for listener, admin interface and backend.
pub const PORTS: [&str; 3] = ["12000", "12001", "12002"];

/// How many workers our own Envoy has.
pub const WORKERS: u16 = 2;

/// The image of `--container`.
pub const IMAGE: &str = "envoyproxy/envoy:v1.40.0";

/// The label of our containers; its value is the process that made them.
const LABEL: &str = "mesh.demo2";

const READY: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
/// How long Docker may take for one command.
const DOCKER: Duration = Duration::from_secs(60);

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
    /// There is no such container, or it does not run.
    #[error("container {container} cannot be watched ({why}): `docker ps` lists those that run")]
    NoContainer {
        /// What was asked for.
        container: String,
        /// What Docker says.
        why: String,
    },
    /// Its listener's own address means something else here than where it lives.
    #[error(
        "process {pid} lives in another network than we, as in a container: name its published port with --target"
    )]
    Elsewhere {
        /// Its process.
        pid: u32,
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
            Self::Container => container(stay, life).await,
            Self::Pid { pid, admin, target } => running(*pid, *admin, *target).await,
            Self::Attach { container, admin, target } => {
                let pid = pid_of(container).await.map_err(Unready::new)?;
                running(pid, *admin, *target).await
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

/// Answers everything with a few bytes.
pub fn answer(listener: TcpListener, life: &Lifecycle) {
    web::serve(listener, life, |_| async { web::text(StatusCode::OK, "hello\n") });
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

async fn container(stay: bool, life: &Lifecycle) -> anyhow::Result<Target> {
    sweep().await;
    let backend_port = backend(stay, life).await?;
    // An admin interface on port 0 could not be found from outside.
    let (listener, admin) = (port(ports::DEMO2_ENVOY, stay).await?, port(ports::DEMO2_ADMIN, stay).await?);
    let (listener_port, admin_port) = (listener.local_addr()?.port(), admin.local_addr()?.port());
    drop((listener, admin));
    let label = format!("{LABEL}={}", std::process::id());
    let text = config(listener_port, admin_port, backend_port);
    let workers = WORKERS.to_string();
    #[rustfmt::skip]
    let id = docker(&[
        "run", "--detach", "--rm", "--network", "host", "--label", &label, "--user", "101:101", "--read-only",
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pull", "missing",
        "--entrypoint", "/usr/local/bin/envoy", IMAGE,
        "--config-yaml", &text, "--concurrency", &workers, "--disable-hot-restart", "--log-level", "warning",
    ])
    .await
    .map_err(|why| Unready::new(NoTarget::NoContainer { container: IMAGE.to_owned(), why }))?;
    let stop = life.token();
    let named = id.clone();
    life.spawn(async move {
        stop.cancelled().await;
        if let Err(why) = docker(&["rm", "--force", &named]).await {
            tracing::warn!("the container {named} may still run: {why}");
        }
    });
    let pid = pid_of(&id).await?;
    let admin = Admin::new((Ipv4Addr::LOCALHOST, admin_port).into());
    poll::wait_until("the container's Envoy", LOOK, READY, || admin.ready()).await?;
    let call = (Ipv4Addr::LOCALHOST, listener_port).into();
    let network = witness::network(pid)?;
    Ok(Target {
        pid,
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
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return Err(Unready::new(NoTarget::NoProcess { pid }).into());
    }
    let nothing = |what| Unready::new(NoTarget::NothingToCall { admin, what });
    let interface = Admin::new(admin);
    let listens = listener(&interface).await.map_err(Unready::new)?;
    let listens = listens.ok_or_else(|| nothing("listener"))?;
    let clusters = interface.clusters().await.map_err(Unready::new)?;
    let mut hosts = clusters.iter().flat_map(|cluster| &cluster.hosts);
    let backend_port = hosts.next().ok_or_else(|| nothing("backend"))?.address.port();
    let own = SocketAddr::new(
        if listens.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listens.ip() },
        listens.port(),
    );
    let network = witness::network(pid).with_context(|| format!("cannot look into process {pid}"))?;
    // An address is the same one only where the network is: 127.0.0.1 of a container is its own.
    let here = network == witness::network(std::process::id())?;
    let call = target.or(here.then_some(own)).ok_or_else(|| Unready::new(NoTarget::Elsewhere { pid }))?;
    Ok(Target {
        pid,
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

/// Where the first listener listens.
async fn listener(admin: &Admin) -> Result<Option<SocketAddr>, shared::envoy::AdminError> {
    Ok(admin.listeners().await?.first().map(|listener| listener.address))
}

/// A container's first process, as this machine counts.
async fn pid_of(container: &str) -> Result<u32, NoTarget> {
    let refuse = |why| NoTarget::NoContainer { container: container.to_owned(), why };
    let said = docker(&["inspect", "--format", "{{.State.Pid}}", container]).await.map_err(refuse)?;
    match said.parse() {
        Ok(0) | Err(_) => Err(refuse("it does not run".to_owned())),
        Ok(pid) => Ok(pid),
    }
}

/// Takes away containers of runs that were killed and could not.
async fn sweep() {
    let format = format!("{{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}");
    let filter = format!("label={LABEL}");
    let Ok(listed) = docker(&["ps", "--filter", &filter, "--format", &format]).await else { return };
    for (id, owner) in listed.lines().filter_map(|line| line.split_once(' ')) {
        if !Path::new(&format!("/proc/{owner}")).exists() {
            _ = docker(&["rm", "--force", id]).await;
        }
    }
}

async fn docker(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.args(arguments);
    let output = shared::child::output(command, DOCKER).await.map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().last().unwrap_or("docker failed").to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Target {
    /// What a program is told on the command line to watch it.
    pub fn arguments(&self, program: program::Program) -> Vec<String> {
        program.arguments(self.pid, self.listener_port, self.backend_port, self.network)
    }

    /// Fails if it has ended meanwhile.
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
