//! Everything that stands through the whole story: the control plane, an Envoy, and the ports of both.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use envoy_types::pb::envoy::config::core::v3::Node;
use mesh_xds::cache::{Cache, OnRejection};
use mesh_xds::{ControlPlane, LoadReports, Snapshot};
use shared::cli::{self, LiveEnvironment};
use shared::envoy::{Bootstrap, Envoy, Serving, Started};
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::ports::{self, ReservedPort};
use shared::report;
use shared::tools::Program;
use tokio::net::TcpListener;

use super::client::DataPlaneClient;
use super::limits::LIMIT;
use crate::backend::Backend;
use crate::caller::Caller;
use crate::plan::Plan;
use crate::topology::{CLUSTER, DataPlane, DesiredState, LISTENER, REGION};

/// How often Envoys report their load.
pub(super) const LOAD_REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// The node of the Envoy that is there all the time.
pub(super) const FIRST_ENVOY: &str = "demo4-envoy";

/// The node of the Envoy that some steps add. It is a group of its own: it cannot listen where the first does.
pub(super) const SECOND_ENVOY: &str = "demo4-envoy-2";

/// Everything that runs while the story is told.
pub struct Mesh {
    pub(super) plan: Plan,
    /// The story's, for what outlives a step.
    pub(super) life: Lifecycle,
    control_plane: Option<ControlPlane>,
    pub(super) loads: LoadReports,
    /// The control plane's port, held while it is away.
    xds_port: ReservedPort,
    pub(super) desired_state: DesiredState,
    pub(super) envoy: Option<Sidecar>,
    program: Option<Program>,
    /// The backends that stay up after the run.
    backends_to_stay: Vec<Backend>,
}

/// An Envoy that serves, and a client that calls through it.
pub(super) struct Sidecar {
    pub(super) envoy: Serving,
    pub(super) caller: Caller,
    listener: SocketAddr,
}

impl Mesh {
    /// Starts the control plane with an empty state, and an Envoy if there is a program for it.
    pub(super) async fn start(
        plan: &Plan,
        program: Option<&Program>,
        life: &Lifecycle,
    ) -> anyhow::Result<Self> {
        let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, if plan.stay { port } else { 0 }));
        // The lab ports are taken now or not at all: better to say so before the story than after it.
        let xds = cli::listen_on_lab_port(loopback(ports::DEMO4_XDS)).await?.local_addr()?;
        let xds_port = ReservedPort::new(xds)?;
        for port in [ports::DEMO4_ENVOY, ports::DEMO4_ADMIN] {
            drop(cli::listen_on_lab_port(loopback(port)).await?);
        }
        let mut mesh = Self {
            plan: plan.clone(),
            life: life.clone(),
            control_plane: None,
            loads: LoadReports::with_interval(LOAD_REPORT_INTERVAL),
            xds_port,
            desired_state: DesiredState::new(loopback(ports::DEMO4_ENVOY), []),
            envoy: None,
            program: program.cloned(),
            backends_to_stay: Vec::new(),
        };
        mesh.start_control_plane(life).await?;
        let state = mesh.desired_state.clone();
        mesh.publish(&state)?;
        if program.is_some() {
            let started = mesh.start_envoy(FIRST_ENVOY, loopback(ports::DEMO4_ADMIN), life).await?;
            mesh.envoy = Some(mesh.wait_until_serving(started).await?);
        }
        Ok(mesh)
    }

    /// Starts the control plane on its port. It has no configuration until the first publication.
    pub(super) async fn start_control_plane(&mut self, life: &Lifecycle) -> anyhow::Result<()> {
        let group =
            |node: &Node| if node.id == SECOND_ENVOY { SECOND_ENVOY } else { DataPlane::of(node).name() };
        let cache = Cache::grouped(move |node| group(node).to_owned()).on_rejection(OnRejection::Keep);
        let listener = cli::listen_on_lab_port(self.xds_port.address()).await?;
        let control_plane = ControlPlane::serve(listener, cache, Some(self.loads.clone()), &life.token())?;
        life.spawn(control_plane.ended());
        if let Some(format) = self.plan.xds_log {
            control_plane.follow_events(format, report::line_err);
        }
        self.control_plane = Some(control_plane);
        Ok(())
    }

    pub(super) fn take_control_plane(&mut self) -> Option<ControlPlane> {
        self.control_plane.take()
    }

    pub(super) fn control_plane(&self) -> anyhow::Result<&ControlPlane> {
        self.control_plane.as_ref().context("the control plane is stopped just now")
    }

    /// Publishes this state to every client, rendered for its kind, and does not wait.
    ///
    /// Returns the snapshot of each group.
    pub(super) fn publish(
        &mut self,
        state: &DesiredState,
    ) -> anyhow::Result<Vec<(&'static str, Arc<Snapshot>)>> {
        self.desired_state = state.clone();
        let any_port = DesiredState { listen: SocketAddr::new(state.listen.ip(), 0), ..state.clone() };
        let control_plane = self.control_plane()?;
        let groups = [
            (DataPlane::Envoy.name(), DataPlane::Envoy, state),
            (DataPlane::Proxyless.name(), DataPlane::Proxyless, state),
            (SECOND_ENVOY, DataPlane::Envoy, &any_port),
        ];
        let published = groups.into_iter().map(|(group, plane, state)| {
            Ok((group, control_plane.publish_to(group, state.snapshot(plane)?)))
        });
        published.collect()
    }

    /// Publishes this state to every client, and waits until Envoy has applied it.
    ///
    /// A proxyless client says that it accepted before it acts on it, and nothing tells when it does;
    /// [`DataPlaneClient::wait_for_backends`] waits for that.
    pub(super) async fn publish_and_wait(&mut self, state: &DesiredState) -> anyhow::Result<()> {
        let published = self.publish(state)?;
        if let Some(sidecar) = &self.envoy {
            self.wait_until_applied(&published, DataPlane::Envoy.name(), &sidecar.caller).await?;
        }
        Ok(())
    }

    /// Waits until the one Envoy of a group has applied what was published.
    pub(super) async fn wait_until_applied(
        &self,
        published: &[(&str, Arc<Snapshot>)],
        group: &str,
        caller: &Caller,
    ) -> anyhow::Result<()> {
        for (_, snapshot) in published.iter().filter(|(to, _)| *to == group) {
            self.control_plane()?.accepted_by(group, snapshot, LIMIT).await?;
        }
        // Envoy's main thread has handed the new configuration to the worker before it accepted it, and
        // the worker takes it up between two calls: after one more call it surely has.
        caller.call().await;
        Ok(())
    }

    /// Returns one client for each data plane; the proxyless client is a new one without earlier configuration.
    pub(super) fn data_plane_clients(&self) -> anyhow::Result<Vec<DataPlaneClient>> {
        let mut clients = Vec::new();
        if let Some(sidecar) = &self.envoy {
            clients.push(DataPlaneClient::new(DataPlane::Envoy, sidecar.caller.clone()));
        }
        if self.plan.planes.has(DataPlane::Proxyless) {
            clients.push(DataPlaneClient::new(DataPlane::Proxyless, self.proxyless_client()?));
        }
        Ok(clients)
    }

    /// A new proxyless client.
    pub(super) fn proxyless_client(&self) -> anyhow::Result<Caller> {
        Ok(Caller::proxyless(self.xds_port.address(), LISTENER)?)
    }

    /// One more Envoy, asking the same control plane.
    pub(super) async fn start_envoy(
        &self,
        id: &str,
        admin: SocketAddr,
        life: &Lifecycle,
    ) -> anyhow::Result<Started> {
        let program = self.program.as_ref().context("this run has no Envoy")?;
        let bootstrap =
            Bootstrap::new(id, self.xds_port.address()).cluster("demo4").admin(admin).load_reports(true);
        Ok(Envoy::new(&program.path, bootstrap.to_yaml()).start(life).await?)
    }

    /// Waits until an Envoy serves and listens.
    pub(super) async fn wait_until_serving(&self, started: Started) -> anyhow::Result<Sidecar> {
        let envoy = started.ready(self.plan.ready_limit).await?;
        let listener = listener_of(&envoy).await?;
        let caller = Caller::connect(&format!("http://{listener}"))?;
        Ok(Sidecar { envoy, caller, listener })
    }

    /// Starts the three backends that stay up after the run.
    pub(super) async fn start_backends_to_stay(&mut self, life: &Lifecycle) -> anyhow::Result<()> {
        self.backends_to_stay = start_backends(REGION, 3, life).await?;
        let state =
            DesiredState::new(self.desired_state.listen, self.backends_to_stay.iter().map(Backend::address));
        self.publish_and_wait(&state).await
    }
}

/// Starts `n` backends of a region, named `REGION-1` and so on.
pub(super) async fn start_backends(region: &str, n: usize, life: &Lifecycle) -> anyhow::Result<Vec<Backend>> {
    let mut started = Vec::new();
    for number in 1..=n {
        started.push(start_backend(region, number, life).await?);
    }
    Ok(started)
}

/// Starts one backend.
pub(super) async fn start_backend(region: &str, number: usize, life: &Lifecycle) -> anyhow::Result<Backend> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for a backend")?;
    Ok(Backend::start(&format!("{region}-{number}"), region, listener, life))
}

/// The address that Envoy listens on, once it does.
async fn listener_of(envoy: &Serving) -> anyhow::Result<SocketAddr> {
    let found = poll::wait_until("Envoy's listener", Duration::from_millis(5), LIMIT, || async {
        let listeners = envoy.admin().listeners().await.map_err(|error| error.to_string())?;
        let ours = listeners.into_iter().find(|listener| listener.name == LISTENER);
        ours.map(|listener| listener.address).ok_or_else(|| "no listener yet".to_owned())
    });
    Ok(found.await?)
}

impl LiveEnvironment for Mesh {
    fn instructions(&self) -> String {
        let xds = self.xds_port.address();
        let mut text = "Everything stays up until Ctrl-C. Try, from another terminal:\n".to_owned();
        if let Some(Sidecar { envoy, listener, .. }) = &self.envoy {
            let admin = envoy.admin().address();
            text += &format!(
                "\n  cargo run -p demo4-lb --bin demo4-client -- --target http://{listener} --count 100\
                 \n  grpcurl -plaintext -d '{{\"text\":\"hello\"}}' -import-path shared/proto -proto echo.proto \\\
                 \n    {listener} mesh.echo.v1.Echo/Say\
                 \n  curl -s 'http://{admin}/clusters' | grep {CLUSTER}\
                 \n  curl -s 'http://{admin}/config_dump?include_eds'"
            );
        }
        if let Some(backend) = self.backends_to_stay.first() {
            let at = backend.address();
            text += &format!("\n  grpc_health_probe -addr {at}\n  grpcurl -plaintext {at} list");
        }
        text += &format!(
            "\n  cargo run -p demo4-lb --bin demo4-client -- --target xds:///{LISTENER} --control-plane {xds}\n\
             \nThe control plane listens on {xds}."
        );
        for backend in &self.backends_to_stay {
            text += &format!("\n{} listens on {}.", backend.name(), backend.address());
        }
        text
    }
}
