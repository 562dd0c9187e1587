//! An Envoy of our own, with a backend behind it: its configuration, and its start. Does not know how it is watched.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use http::StatusCode;
use shared::cli;
use shared::envoy::{Admin, Envoy};
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::ports;
use shared::tools::Program;
use shared::web;
use tokio::net::TcpListener;

use super::watched::{Target, listener};
use crate::container;
use crate::witness;
use crate::workload;

/// Envoy's configuration.
pub const CONFIG: &str = include_str!("../../envoy/envoy.yaml");

/// The ports in it, for listener, admin interface and backend.
pub const PORTS: [&str; 3] = ["12000", "12001", "12002"];

/// How many workers our own Envoy has.
pub const WORKERS: u16 = 2;

const READY: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

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
    Ok(cli::listen_on_lab_port((Ipv4Addr::LOCALHOST, if stay { lab } else { 0 }).into()).await?)
}

async fn backend(stay: bool, life: &Lifecycle) -> anyhow::Result<u16> {
    let listener = port(ports::DEMO2_BACKEND, stay).await?;
    let port = listener.local_addr()?.port();
    answer(listener, life);
    Ok(port)
}

pub(super) async fn process(program: &Program, stay: bool, life: &Lifecycle) -> anyhow::Result<Target> {
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

pub(super) async fn in_container(stay: bool, life: &Lifecycle) -> anyhow::Result<Target> {
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
