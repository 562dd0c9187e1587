//! The story: one Envoy, backends that come and go, a control plane that comes and goes.
//!
//! ```text
//!   client ──gRPC──> Envoy ──gRPC──> backend-1, backend-2, …
//!                      ^
//!                      └──xDS── control plane <── publish(world)
//! ```
//!
//! Each step changes the world, watches what calls get, and claims only what it measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use shared::cli::{self, Stays, Unready};
use shared::envoy::{Bootstrap, Envoy, Serving};
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::ports::{self, Held};
use shared::report::{self, Story};
use shared::tools;
use shared::xds::ControlPlane;
use shared::xds::cache::OnRefusal;
use shared::xds::dialogue::Form;
use tokio::net::TcpListener;

use crate::backend::Backend;
use crate::caller::{Call, Caller, Tally};
use crate::topology::{CLUSTER, LISTENER, World};

mod steps;

/// How long Envoy may take to get ready, unless the [`Plan`] says otherwise.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// How long any other wait may take. Far more than it ever should; a slow machine is no failure.
const LIMIT: Duration = Duration::from_secs(20);

/// Calls of a measurement. With 300 calls a backend that got 25 % more or less than its share is seen.
const CALLS: usize = 300;

/// Steady load while the world changes, in calls a second.
const RATE: u32 = 400;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The Envoy to use; found or installed if not given.
    pub envoy: Option<PathBuf>,
    /// Use the lab ports, because everything shall stay up after the story.
    pub stay: bool,
    /// Print what Envoy and the control plane say to each other.
    pub dialogue: Option<Form>,
    /// How long Envoy may take to get ready.
    pub ready_limit: Duration,
}

impl Plan {
    fn show_dialogue(&self, control_plane: &ControlPlane) {
        if let Some(form) = self.dialogue {
            control_plane.show_dialogue(form, report::line_err);
        }
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self { envoy: None, stay: false, dialogue: None, ready_limit: READY_LIMIT }
    }
}

/// Everything that runs while the story is told.
pub struct Mesh {
    control_plane: Option<ControlPlane>,
    /// The control plane's port, held while it is away.
    xds_port: Held,
    world: World,
    envoy: Serving,
    listener: SocketAddr,
    caller: Caller,
    backends: Vec<Backend>,
    begun: Instant,
}

/// Tells the whole story.
///
/// # Errors
/// If something that the story needs cannot be had or breaks; a claim that does not hold is no error.
pub async fn run(plan: &Plan, story: &mut Story, life: &Lifecycle) -> anyhow::Result<Mesh> {
    let begun = Instant::now();
    let program = tools::envoy(plan.envoy.as_deref()).await.map_err(Unready::new)?;
    story.version("envoy", &program.version);

    story.step("Three backends behind one Envoy listener");
    let mut mesh = Mesh::start(plan, &program, life, begun).await?;
    mesh.spread_evenly(story).await?;
    story.step("A fourth backend joins while calls run");
    mesh.backend_joins(story, life).await?;
    story.step("A backend is drained and removed while calls run");
    mesh.backend_leaves(story, life).await?;
    story.step("The control plane is stopped, and started again");
    mesh.control_plane_returns(plan, story, life).await?;

    Ok(mesh)
}

impl Stays for Mesh {
    fn invitation(&self) -> String {
        format!(
            "Everything stays up until Ctrl-C. Try, from another terminal:\n\
             \n  cargo run -p demo4-lb --bin demo4-client -- --target http://{listener} --count 100\
             \n  grpcurl -plaintext -d '{{\"text\":\"hello\"}}' -import-path shared/proto -proto echo.proto \\\
             \n    {listener} mesh.echo.v1.Echo/Say\
             \n  curl -s 'http://{admin}/clusters' | grep {CLUSTER}\
             \n  curl -s 'http://{admin}/config_dump?include_eds'\n\
             \nThe control plane listens on {xds}, Envoy's admin interface on {admin}.",
            listener = self.listener,
            admin = self.envoy.admin().address(),
            xds = self.xds_port.address(),
        )
    }
}

impl Mesh {
    async fn start(
        plan: &Plan,
        program: &tools::Program,
        life: &Lifecycle,
        begun: Instant,
    ) -> anyhow::Result<Self> {
        let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, if plan.stay { port } else { 0 }));
        // The lab ports are taken now or not at all: better to say so before the story than after it.
        let xds = cli::listen(loopback(ports::DEMO4_XDS)).await?.local_addr()?;
        let xds_port = Held::new(xds)?;
        let xds_listener = cli::listen(xds).await?;
        for port in [ports::DEMO4_ENVOY, ports::DEMO4_ADMIN] {
            drop(cli::listen(loopback(port)).await?);
        }
        let control_plane = ControlPlane::start(xds_listener, OnRefusal::Keep, life)?;
        plan.show_dialogue(&control_plane);
        let mut backends = Vec::new();
        for number in 1..=3 {
            backends.push(backend(number, life).await?);
        }
        let world = World::new(loopback(ports::DEMO4_ENVOY), backends.iter().map(Backend::address));
        control_plane.publish(world.snapshot()?);
        let bootstrap = Bootstrap::new("demo4-envoy", control_plane.address())
            .cluster("demo4")
            .admin(loopback(ports::DEMO4_ADMIN));
        let envoy = Envoy::new(&program.path, bootstrap.to_yaml());
        let envoy = envoy.start(life).await?.ready(plan.ready_limit).await?;
        let listener = listener_of(&envoy).await?;
        let caller = Caller::connect(&format!("http://{listener}"))?;
        Ok(Self {
            control_plane: Some(control_plane),
            xds_port,
            world,
            envoy,
            listener,
            caller,
            backends,
            begun,
        })
    }

    fn control_plane(&self) -> anyhow::Result<&ControlPlane> {
        self.control_plane.as_ref().context("the control plane is stopped just now")
    }

    fn names(&self) -> Vec<&str> {
        self.backends.iter().map(Backend::name).collect()
    }
}

async fn backend(number: usize, life: &Lifecycle) -> anyhow::Result<Backend> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for a backend")?;
    Ok(Backend::start(&format!("backend-{number}"), crate::topology::REGION, listener, life))
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

fn tally<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Tally {
    calls.into_iter().collect()
}
