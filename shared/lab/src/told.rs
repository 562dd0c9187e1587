//! An Envoy that is told everything by xDS: what a student decided is published, and Envoy has its say.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;

use super::{Bench, Requirement, envoys_words};
use mesh_xds::cache::OnRejection;
use mesh_xds::event_log::EventKind;
use mesh_xds::{ControlPlane, Snapshot};
use shared::envoy::{Bootstrap, Envoy, Serving};
use shared::poll;

/// Far more than anything here needs.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a listener may take to open that was accepted.
const LISTENS: Duration = Duration::from_secs(10);

/// How long Envoy lets connections of a replaced listener live. Ten minutes, unless said: too long for a check.
const DRAIN: Duration = Duration::from_secs(1);

/// A control plane and its one Envoy, which knows nothing else.
pub struct Told {
    /// The control plane; it does not roll back.
    pub control_plane: ControlPlane,
    /// The Envoy.
    pub envoy: Serving,
}

impl Told {
    /// Where an Envoy listens that may choose its port.
    pub const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Starts both, with nothing published.
    ///
    /// # Errors
    /// If there is no Envoy, or it does not start: nothing of a student's is in it yet.
    pub async fn start(bench: &Bench) -> anyhow::Result<Self> {
        let program = bench.envoy_program().await?;
        let listener = TcpListener::bind(Self::ANYWHERE).await.context("no free port for a control plane")?;
        let control_plane = ControlPlane::start(listener, OnRejection::Keep, &bench.life.token())?;
        bench.life.spawn(control_plane.ended());
        control_plane.publish(Snapshot::default());
        let bootstrap = Bootstrap::new("lab", control_plane.address());
        let envoy = Envoy::new(&program, bootstrap.to_yaml()).drain_time(DRAIN).start(&bench.life).await?;
        Ok(Self { envoy: envoy.ready(LIMIT).await?, control_plane })
    }

    /// Publishes, and waits until Envoy accepted it.
    ///
    /// # Errors
    /// Why it did not, in its own words.
    pub async fn show(&self, snapshot: Snapshot) -> Result<(), String> {
        let event_log = self.control_plane.event_log();
        let mark = event_log.mark();
        let snapshot: Arc<Snapshot> = self.control_plane.publish(snapshot);
        tokio::select! {
            accepted = self.control_plane.accepted(&snapshot, LIMIT) => {
                accepted.map_err(|waited| format!("Envoy said neither yes nor no: {waited}"))
            }
            refused = event_log.wait_for(mark, |event| matches!(event.kind, EventKind::Nack { .. })) => {
                Err(match &refused.kind {
                    EventKind::Nack { message, .. } => format!("{} refused: {}", refused.type_name, envoys_words(message)),
                    _ => refused.to_string(),
                })
            }
        }
    }

    /// Where Envoy's first listener is, once there is one.
    ///
    /// # Errors
    /// A [`Requirement`] if none comes.
    pub async fn listener(&self) -> Result<SocketAddr, Requirement> {
        let found = poll::wait_until("Envoy's listener", Duration::from_millis(5), LISTENS, || async {
            let listeners = self.envoy.admin().listeners().await.map_err(|error| error.to_string())?;
            listeners.first().map(|one| one.address).ok_or_else(|| "no listener yet".to_owned())
        });
        found.await.map_err(|waited| {
            let advice = "A listener without its routes, or without its certificate, does not open.";
            Requirement::unmet("Envoy listens", "a listener that is open", waited, advice)
        })
    }
}
