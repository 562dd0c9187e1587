//! The story: one world, told to an Envoy and to clients without one, and changed while calls run.
//!
//! ```text
//!   client ──gRPC──> Envoy ──gRPC──> backends          client ──gRPC──> backends
//!                      ^                                  ^
//!                      └───────xDS─── control plane ──xDS─┘
//! ```
//!
//! Each step makes the backends and the world that it needs, watches what calls get, and claims only
//! what it measured. So each can be run by itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use mesh_xds::event_log::EventFormat;
use shared::cli::Unready;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::report::Story;
use shared::tools;

use crate::topology::DataPlane;

mod mesh;

mod lane;

pub(crate) mod claims;

mod plain;

mod calls;

mod localities;

mod priorities;

mod outlier;

mod feedback;

mod rolling;

mod restart;

mod cost;

mod plot;

mod reports;

mod window;

pub use mesh::Mesh;

/// How long Envoy may take to get ready, unless the [`Plan`] says otherwise.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// How long any other wait may take. Far more than it ever should; a slow machine is no failure.
const LIMIT: Duration = Duration::from_secs(30);

/// Calls of a measurement. Over three backends, one that truly gets half or one and a half of its share is then
/// missed in one of 1,900 runs; with 300 calls it would be one of five (`shared/tests/stats.rs` reckons it).
const CALLS: usize = 600;

/// Steady load while the world changes, in calls a second.
const RATE: u32 = 200;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The Envoy to use; found or installed if not given.
    pub envoy: Option<PathBuf>,
    /// Use the lab ports, because everything shall stay up after the story.
    pub stay: bool,
    /// Print what clients and the control plane say to each other.
    pub xds_log: Option<EventFormat>,
    /// How long Envoy may take to get ready.
    pub ready_limit: Duration,
    /// Who picks the backends.
    pub planes: Planes,
    /// The only step to run; all of them if none is named.
    pub step: Option<Step>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            envoy: None,
            stay: false,
            xds_log: None,
            ready_limit: READY_LIMIT,
            planes: Planes::default(),
            step: None,
        }
    }
}

/// Which data planes take part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Planes {
    /// Envoy only
    Envoy,
    /// gRPC clients that speak xDS themselves only
    Proxyless,
    /// Both, side by side
    #[default]
    Both,
}

impl Planes {
    /// Whether this one takes part.
    pub fn has(self, plane: DataPlane) -> bool {
        match self {
            Self::Both => true,
            Self::Envoy => plane == DataPlane::Envoy,
            Self::Proxyless => plane == DataPlane::Proxyless,
        }
    }
}

/// A part of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Step {
    /// One address and no xDS: what there is without a mesh
    Plain,
    /// Calls are spread evenly, of all four kinds
    Calls,
    /// Three regions get 70, 20 and 10 %
    Localities,
    /// A region loses its backends one by one, and gets them back
    Priorities,
    /// A backend answers UNAVAILABLE for a while
    Outlier,
    /// Load reports keep a region under its capacity
    Feedback,
    /// Backends join, leave, and are all replaced while calls run
    Rolling,
    /// The control plane is away for a while
    Restart,
    /// What the proxy costs
    Cost,
}

impl Step {
    /// Its title in the story.
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "One address and no mesh",
            Self::Calls => "Calls of all four kinds over three backends",
            Self::Localities => "Three regions are to get 70, 20 and 10 %",
            Self::Priorities => "A region falls ill, the next one takes over, and it heals",
            Self::Outlier => "A backend says that it is well, and fails",
            Self::Feedback => "Two Envoys overload a region that neither could overload alone",
            Self::Rolling => "Backends join, leave, and are all replaced while calls run",
            Self::Restart => "The control plane is stopped, and started again",
            Self::Cost => "What a call costs",
        }
    }

    /// Whether the step is about something that only Envoy does.
    fn needs_envoy(self) -> bool {
        matches!(self, Self::Feedback)
    }
}

/// Tells the whole story, or the one step that the plan names.
///
/// # Errors
/// If something that the story needs cannot be had or breaks; a claim that does not hold is no error.
pub async fn run(plan: &Plan, story: &mut Story, life: &Lifecycle) -> anyhow::Result<Mesh> {
    let program = if plan.planes.has(DataPlane::Envoy) {
        let program = tools::envoy(plan.envoy.as_deref()).await.map_err(Unready::new)?;
        story.version("envoy", &program.version);
        Some(program)
    } else {
        None
    };
    let mut mesh = Mesh::start(plan, program.as_ref(), life).await?;
    for step in Step::value_variants() {
        if plan.step.is_some_and(|only| only != *step) {
            continue;
        }
        story.step(step.title());
        if step.needs_envoy() && program.is_none() {
            story.not_checked(
                "feedback",
                "Load reports steer the weights",
                "needs an Envoy",
                "tonic-xds does not report load; run with --data-plane envoy or both",
            );
            continue;
        }
        // The step's backends and loads end with it.
        let scope = life.child();
        mesh.tell(*step, story, &scope).await?;
        scope.shut_down(GRACE).await?;
    }
    if plan.stay {
        mesh.settle(life).await?;
    }
    Ok(mesh)
}

impl Mesh {
    async fn tell(&mut self, step: Step, story: &mut Story, scope: &Lifecycle) -> anyhow::Result<()> {
        match step {
            Step::Plain => self.plain(story, scope).await,
            Step::Calls => self.calls(story, scope).await,
            Step::Localities => self.localities(story, scope).await,
            Step::Priorities => self.priorities(story, scope).await,
            Step::Outlier => self.outlier(story, scope).await,
            Step::Feedback => self.feedback(story, scope).await,
            Step::Rolling => self.rolling(story, scope).await,
            Step::Restart => self.restart(story, scope).await,
            Step::Cost => self.cost(story, scope).await,
        }
    }
}
