//! An Envoy that runs already: where it listens, and who is behind it, by its own words and by a request of ours.
//!
//! Does not know how it was started, nor whether it is the one that was meant.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use shared::cli::SetupError;
use shared::envoy::Admin;
use shared::envoy::admin::Cluster;

use super::error::NoTarget;
use super::watched::{Target, listener};
use crate::witness;
use crate::workload;

pub(super) async fn running(
    pid: u32,
    admin: SocketAddr,
    target: Option<SocketAddr>,
) -> anyhow::Result<Target> {
    let nothing = |what| SetupError::new(NoTarget::NothingToCall { admin, what });
    let interface = Admin::new(admin);
    let listens = listener(&interface).await.map_err(SetupError::new)?;
    let listens = listens.ok_or_else(|| nothing("listener"))?;
    let own = SocketAddr::new(
        if listens.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listens.ip() },
        listens.port(),
    );
    let network = witness::network(pid).with_context(|| format!("cannot look into process {pid}"))?;
    // An address is the same one only where the network is: 127.0.0.1 of a container is its own.
    let here = network == witness::network(std::process::id())?;
    let call = target.or(here.then_some(own)).ok_or_else(|| SetupError::new(NoTarget::Elsewhere { pid }))?;
    let backend_port = port_behind(&interface, call).await?;
    Ok(Target {
        pid,
        version: witness::version(&interface).await.map_err(SetupError::new)?,
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
    let before = admin.clusters().await.map_err(SetupError::new)?;
    let refused = |source| SetupError::new(NoTarget::NoAnswer { call, source });
    workload::once(call).await.map_err(refused)?;
    let after = admin.clusters().await.map_err(SetupError::new)?;
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
            Err(SetupError::new(NoTarget::NothingToCall { admin: admin.address(), what }).into())
        }
        (Some(one), Some(other)) => Err(SetupError::new(NoTarget::ManyPorts { one, other }).into()),
    }
}

fn requests(cluster: &Cluster) -> u64 {
    cluster.hosts.iter().filter_map(|host| host.stats.get("rq_total")).sum()
}
