//! An Envoy that is told everything by xDS: what a student's function decided is published, and Envoy has its say.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use shared::envoy::{Bootstrap, Envoy, Serving};
use shared::lab::{Bench, envoys_words};
use shared::poll;
use shared::xds::cache::OnRefusal;
use shared::xds::dialogue::Said;
use shared::xds::{ControlPlane, Snapshot};
use tokio::net::TcpListener;

use crate::caller::Caller;

/// Far more than anything here needs.
const LIMIT: Duration = Duration::from_secs(30);

/// Where an Envoy listens that may choose its port.
pub(super) const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A control plane and its one Envoy.
pub(super) struct Told {
    control_plane: ControlPlane,
    pub(super) envoy: Serving,
}

impl Told {
    /// Starts both. Envoy has nothing but its bootstrap.
    pub(super) async fn start(bench: &Bench) -> anyhow::Result<Self> {
        let program = bench.envoy_program().await?;
        let listener = TcpListener::bind(ANYWHERE).await.context("no free port for a control plane")?;
        let control_plane = ControlPlane::start(listener, OnRefusal::Keep, &bench.life)?;
        control_plane.publish(Snapshot::default());
        let bootstrap = Bootstrap::new("lab", control_plane.address());
        let envoy = Envoy::new(&program, bootstrap.to_yaml()).start(&bench.life).await?;
        Ok(Self { envoy: envoy.ready(LIMIT).await?, control_plane })
    }

    /// Publishes, and waits until Envoy goes by it; or says in Envoy's words why it does not.
    pub(super) async fn show(&self, snapshot: Snapshot) -> anyhow::Result<Result<(), String>> {
        let mark = self.control_plane.dialogue().mark();
        let snapshot: Arc<Snapshot> = self.control_plane.publish(snapshot);
        tokio::select! {
            accepted = self.control_plane.accepted(&snapshot, LIMIT) => Ok(Ok(accepted?)),
            refused = self.control_plane.dialogue().wait_for(mark, |event| matches!(event.said, Said::Nack { .. })) => {
                Ok(Err(match &refused.said {
                    Said::Nack { message, .. } => format!("{} refused: {}", refused.kind, envoys_words(message)),
                    _ => refused.to_string(),
                }))
            }
        }
    }

    /// A caller of Envoy's listener, once it has one.
    pub(super) async fn caller(&self) -> anyhow::Result<Caller> {
        let found = poll::wait_until("Envoy's listener", Duration::from_millis(5), LIMIT, || async {
            let listeners = self.envoy.admin().listeners().await.map_err(|error| error.to_string())?;
            listeners.first().map(|one| one.address).ok_or_else(|| "no listener yet".to_owned())
        });
        Ok(Caller::connect(&format!("http://{}", found.await?))?)
    }
}
