#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement, envoy_error_summary};
use tokio::net::TcpListener;

use mesh_xds::cache::OnRejection;
use mesh_xds::event_log::EventKind;
use mesh_xds::{ControlPlane, Snapshot};
use shared::envoy::{Bootstrap, Envoy, Serving};
use shared::poll;

/// A generous limit for starting Envoy and for its answers.
const LIMIT: Duration = Duration::from_secs(30);

/// How long an accepted listener may take to open.
const LISTENS: Duration = Duration::from_secs(10);

/// How long Envoy keeps connections of a replaced listener open. The default of ten minutes is too long for a check.
const DRAIN: Duration = Duration::from_secs(1);

/// An Envoy that gets its listeners, routes and clusters from a control plane.
pub struct XdsEnvoy {
    /// The control plane; it does not roll back.
    pub control_plane: ControlPlane,
    /// The Envoy.
    pub envoy: Serving,
}

impl XdsEnvoy {
    /// A loopback address whose port the system chooses.
    pub const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Starts both, with nothing published.
    ///
    /// # Errors
    /// If no Envoy is found, or it does not start. The student's files are not involved yet.
    pub async fn start(bench: &CheckContext) -> anyhow::Result<Self> {
        let program = bench.envoy_program().await?;
        let listener = TcpListener::bind(Self::ANYWHERE).await.context("no free port for a control plane")?;
        let control_plane = ControlPlane::start(listener, OnRejection::Keep, &bench.life.token())?;
        bench.life.spawn(control_plane.ended());
        control_plane.publish(Snapshot::default());
        let bootstrap = Bootstrap::new("lab", control_plane.address());
        let envoy = Envoy::new(&program, bootstrap.to_yaml()).drain_time(DRAIN).start(&bench.life).await?;
        Ok(Self { envoy: envoy.ready(LIMIT).await?, control_plane })
    }

    /// Publishes a snapshot and waits until Envoy has accepted it.
    ///
    /// # Errors
    /// Envoy's message if it rejected the snapshot, or that it did not answer.
    pub async fn publish(&self, snapshot: Snapshot) -> Result<(), String> {
        let event_log = self.control_plane.event_log();
        let mark = event_log.mark();
        let snapshot: Arc<Snapshot> = self.control_plane.publish(snapshot);
        tokio::select! {
            accepted = self.control_plane.accepted(&snapshot, LIMIT) => {
                accepted.map_err(|waited| format!("Envoy neither accepted nor rejected it: {waited}"))
            }
            refused = event_log.wait_for(mark, |event| matches!(event.kind, EventKind::Nack { .. })) => {
                Err(match &refused.kind {
                    EventKind::Nack { message, .. } => format!("{} refused: {}", refused.type_name, envoy_error_summary(message)),
                    _ => refused.to_string(),
                })
            }
        }
    }

    /// Waits for Envoy's first listener and returns its address.
    ///
    /// # Errors
    /// A [`Requirement`] if no listener opens.
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
