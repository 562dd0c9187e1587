//! The story: one Envoy with many doors, one authorizer behind most of them, and callers of every kind.
//!
//! ```text
//!   callers ──> front, tls, …  ──asks──> authorizer ──> decision log
//!          └──> closed-*, open-* ──asks──> authorizers that are down, slow, or mad
//! ```
//!
//! Each step makes calls, and claims what they got, what the backend saw of them and what the decision log says. What did
//! not reach the backend was not let through: the backend's own count is the witness.

use clap::ValueEnum;
use shared::cli::SetupError;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::report::Recorder;
use shared::tools;

use crate::plan::{Plan, Step};

mod limits;

mod mesh;

mod calls;

mod tables;

mod tokens;

mod rights;

mod headers;

mod certificates;

mod reloading;

mod bodies;

mod faults;

mod failures;

mod draining;

mod cost;

pub use mesh::Mesh;

/// Tells the whole story, or the one step that the plan names.
///
/// # Errors
/// If something that the story needs cannot be had or breaks; a claim that does not hold is no error.
pub async fn run(plan: &Plan, recorder: &mut Recorder, life: &Lifecycle) -> anyhow::Result<Mesh> {
    let program = tools::envoy(plan.envoy.as_deref()).await.map_err(SetupError::new)?;
    recorder.version("envoy", &program.version);
    let mesh = Mesh::start(plan, &program, life).await?;
    for step in Step::value_variants() {
        if plan.step.is_some_and(|only| only != *step) {
            continue;
        }
        recorder.step(step.title());
        let scope = life.child();
        mesh.run_step(*step, recorder, &scope).await?;
        scope.shut_down(GRACE).await?;
    }
    mesh.check_log_has_no_token(recorder).await?;
    Ok(mesh)
}

impl Mesh {
    async fn run_step(&self, step: Step, recorder: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        match step {
            Step::Tokens => self.tokens(recorder).await,
            Step::Rights => self.rights(recorder).await,
            Step::Headers => self.headers(recorder).await,
            Step::Certificates => self.certificates(recorder).await,
            Step::Reloading => self.reloading(recorder).await,
            Step::Bodies => self.bodies(recorder).await,
            Step::Failures => self.failures(recorder).await,
            Step::Draining => self.draining(recorder, scope).await,
            Step::Cost => self.cost(recorder).await,
        }
    }
}
