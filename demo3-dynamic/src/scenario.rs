//! The story: an Envoy that knows nothing becomes, step by step, a TLS proxy that shifts traffic.
//!
//! ```text
//!   client ──HTTP(S)──> Envoy ──> blue, green
//!                         ^
//!                         └──xDS── control plane <── publish(state)
//! ```
//!
//! Each step publishes a state, watches what requests get, and claims only what it measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mesh_xds::ControlPlane;
use mesh_xds::cache::{OnRejection, Quorum};
use mesh_xds::event_log::EventFormat;
use shared::cli::{self, LiveEnvironment, SetupError};
use shared::envoy::{Bootstrap, Envoy, EnvoyXdsVariant, Serving};
use shared::lifecycle::Lifecycle;
use shared::ports::{self, ReservedPort};
use shared::report::{self, Recorder};
use shared::{tools, web};
use tokio::net::TcpListener;

use crate::admin::Admin;
use crate::app::App;
use crate::certificate_authority::CertificateAuthority;
use crate::client::Client;
use crate::topology::{APPS, DesiredState};

mod certificates;
mod config;
mod faults;

/// The demo's only Envoy decides: a snapshot that it rejects is rolled back.
const ROLL_BACK: OnRejection = OnRejection::RollBack { quorum: Quorum::Percent(100) };

/// How long any single wait may take. Far more than it ever should; a slow machine is no failure.
const LIMIT: Duration = Duration::from_secs(20);

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The Envoy to use; found or installed if not given.
    pub envoy: Option<PathBuf>,
    /// The protocol's variant.
    pub variant: EnvoyXdsVariant,
    /// Use the lab ports, because everything shall stay up after the story.
    pub stay: bool,
    /// Print what Envoy and the control plane say to each other.
    pub xds_log: Option<EventFormat>,
}

/// Everything that runs during the scenario.
pub struct Demo {
    plan: Plan,
    control_plane: Option<ControlPlane>,
    /// The control plane's port and the listener's, held while nobody listens there.
    xds_port: ReservedPort,
    _listener_port: ReservedPort,
    envoy: Serving,
    apps: Vec<App>,
    desired_state: DesiredState,
    address: SocketAddr,
    ca: CertificateAuthority,
}

/// Tells the whole story.
///
/// # Errors
/// If something that the story needs cannot be had or breaks; a claim that does not hold is no error.
pub async fn run(plan: &Plan, recorder: &mut Recorder, life: &Lifecycle) -> anyhow::Result<Demo> {
    let program = tools::envoy(plan.envoy.as_deref()).await.map_err(SetupError::new)?;
    recorder.version("envoy", &program.version);
    let variant = match plan.variant {
        EnvoyXdsVariant::Sotw => "state of the world",
        EnvoyXdsVariant::Delta => "incremental",
    };
    recorder.note(format!("over the {variant} protocol"));

    recorder.step("An Envoy that knows only its control plane");
    let mut demo = Demo::start(plan, &program, life).await?;
    demo.check_no_configuration(recorder).await?;
    recorder.step("A cluster, its endpoints, a listener, a route");
    demo.check_first_configuration(recorder).await?;
    recorder.step("The listener gets TLS, its certificate comes by SDS");
    demo.check_tls(recorder, life).await?;
    recorder.step("Traffic shifts from blue to green");
    demo.check_traffic_shift(recorder, life).await?;
    recorder.step("Two mistakes, refused and rolled back");
    demo.check_rejected_snapshots(recorder, life).await?;
    recorder.step("The certificate is rotated");
    demo.check_certificate_rotation(recorder).await?;
    recorder.step("The control plane is stopped, and started again");
    demo.check_control_plane_outage(recorder, life).await?;
    recorder.step("The listener is removed");
    demo.check_listener_removal(recorder).await?;
    if plan.stay {
        demo.serve_admin(life).await?;
    }
    Ok(demo)
}

impl Demo {
    async fn start(plan: &Plan, program: &tools::Program, life: &Lifecycle) -> anyhow::Result<Self> {
        let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, if plan.stay { port } else { 0 }));
        // The lab ports are taken now or not at all: better to say so before the story than after it.
        for port in [ports::DEMO3_XDS, ports::DEMO3_ADMIN, ports::DEMO3_ENVOY, ports::DEMO3_CONTROL] {
            drop(cli::listen_on_lab_port(loopback(port)).await?);
        }
        let xds_port = ReservedPort::new(loopback(ports::DEMO3_XDS))?;
        // The story begins with a port on which nobody listens, so it has to be ours before it is Envoy's.
        let listener_port = ReservedPort::new(loopback(ports::DEMO3_ENVOY))?;
        let address = listener_port.address();
        let xds_listener = cli::listen_on_lab_port(xds_port.address()).await?;
        let control_plane = ControlPlane::start(xds_listener, ROLL_BACK, &life.token())?;
        life.spawn(control_plane.ended());
        plan.log_events(&control_plane);
        let mut apps = Vec::new();
        for name in APPS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            apps.push(App::start(name, listener.context("no free port for an app")?, life)?);
        }
        let desired_state = DesiredState {
            listen: None,
            certificate: None,
            apps: [apps[0].address(), apps[1].address()],
            weights: [100, 0],
        };
        control_plane.publish(desired_state.snapshot()?);
        let bootstrap = Bootstrap::new("demo3-envoy", control_plane.address())
            .cluster("demo3")
            .variant(plan.variant)
            .admin(loopback(ports::DEMO3_ADMIN));
        let envoy = Envoy::new(program, bootstrap.to_yaml());
        let envoy = envoy.start(life).await?.ready(LIMIT).await?;
        let (plan, control_plane) = (plan.clone(), Some(control_plane));
        let _listener_port = listener_port;
        Ok(Self {
            plan,
            control_plane,
            xds_port,
            _listener_port,
            envoy,
            apps,
            desired_state,
            address,
            ca: CertificateAuthority::new("mesh demo")?,
        })
    }

    fn control_plane(&self) -> anyhow::Result<&ControlPlane> {
        self.control_plane.as_ref().context("the control plane is stopped just now")
    }

    /// Publishes the current state, and waits until Envoy has accepted and applied all of it.
    async fn publish_and_wait(&self) -> anyhow::Result<()> {
        let snapshot = self.control_plane()?.publish(self.desired_state.snapshot()?);
        self.control_plane()?.accepted(&snapshot, LIMIT).await?;
        if self.desired_state.listen.is_some() {
            let client = match self.desired_state.certificate {
                Some(_) => self.client()?,
                None => Client::plain(self.address),
            };
            // Envoy's main thread has handed the new configuration to its one worker before it accepted it, and the
            // worker takes it up between two events: after one more request, whatever came of it, it surely has.
            _ = client.get("/").await;
        }
        Ok(())
    }

    /// Opens the listener again, as plain HTTP, and serves the HTTP interface of the control plane.
    async fn serve_admin(&mut self, life: &Lifecycle) -> anyhow::Result<()> {
        self.desired_state.listen = Some(self.address);
        self.desired_state.certificate = None;
        self.publish_and_wait().await?;
        let control_plane = self.control_plane.take().context("the control plane is stopped just now")?;
        let admin = Arc::new(Admin::new(control_plane, Some(self.desired_state.clone())));
        let listener = cli::listen_on_lab_port((Ipv4Addr::LOCALHOST, ports::DEMO3_CONTROL).into()).await?;
        web::serve(listener, life, move |request| Arc::clone(&admin).handle(request));
        Ok(())
    }

    /// A client that trusts our root.
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::tls(self.address, self.ca.client_config()?))
    }
}

impl Plan {
    fn log_events(&self, control_plane: &ControlPlane) {
        if let Some(format) = self.xds_log {
            control_plane.follow_events(format, report::line_err);
        }
    }
}

impl LiveEnvironment for Demo {
    fn instructions(&self) -> String {
        format!(
            "Everything stays up until Ctrl-C, with the listener open again, as plain HTTP. Try:\n\
             \n  curl http://{listener}/\
             \n  curl -X PUT http://{control}/weights -d '{{\"blue\":50,\"green\":50}}'\
             \n  curl http://{control}/snapshot\
             \n  curl http://{control}/clients\
             \n  curl http://{control}/xds-log\
             \n  curl -s 'http://{admin}/config_dump?include_eds'\n\
             \nThe control plane serves xDS on {xds}.",
            listener = self.address,
            control = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::DEMO3_CONTROL)),
            admin = self.envoy.admin().address(),
            xds = self.xds_port.address(),
        )
    }
}
