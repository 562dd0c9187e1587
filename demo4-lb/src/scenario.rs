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

use clap::ValueEnum;
use shared::cli::SetupError;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::report::Recorder;
use shared::tools;

use crate::plan::{Plan, Step};
use crate::topology::DataPlane;

mod limits;

mod mesh;

mod client;

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

/// Tells the whole story, or the one step that the plan names.
///
/// # Errors
/// If something that the story needs cannot be had or breaks; a claim that does not hold is no error.
pub async fn run(plan: &Plan, recorder: &mut Recorder, life: &Lifecycle) -> anyhow::Result<Mesh> {
    let program = if plan.planes.has(DataPlane::Envoy) {
        let program = tools::envoy(plan.envoy.as_deref()).await.map_err(SetupError::new)?;
        recorder.version("envoy", &program.version);
        Some(program)
    } else {
        None
    };
    let mut mesh = Mesh::start(plan, program.as_ref(), life).await?;
    for step in Step::value_variants() {
        if plan.step.is_some_and(|only| only != *step) {
            continue;
        }
        recorder.step(step.title());
        if step.needs_envoy() && program.is_none() {
            recorder.not_checked(
                "feedback",
                "Load reports steer the weights",
                "needs an Envoy",
                "tonic-xds does not report load; run with --data-plane envoy or both",
            );
            continue;
        }
        // The step's backends and loads end with it.
        let scope = life.child();
        mesh.run_step(*step, recorder, &scope).await?;
        scope.shut_down(GRACE).await?;
    }
    if plan.stay {
        mesh.start_backends_to_stay(life).await?;
    }
    Ok(mesh)
}

impl Mesh {
    async fn run_step(
        &mut self,
        step: Step,
        recorder: &mut Recorder,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        match step {
            Step::Plain => self.plain(recorder, scope).await,
            Step::Calls => self.calls(recorder, scope).await,
            Step::Localities => self.localities(recorder, scope).await,
            Step::Priorities => self.priorities(recorder, scope).await,
            Step::Outlier => self.outlier(recorder, scope).await,
            Step::Feedback => self.feedback(recorder, scope).await,
            Step::Rolling => self.rolling(recorder, scope).await,
            Step::Restart => self.restart(recorder, scope).await,
            Step::Cost => self.cost(recorder, scope).await,
        }
    }
}
