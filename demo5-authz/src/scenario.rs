//! The story: one Envoy with many doors, one authorizer behind most of them, and callers of every kind.
//!
//! ```text
//!   callers ──> front, tls, …  ──asks──> authorizer ──> decision log
//!          └──> closed-*, open-* ──asks──> authorizers that are down, slow, or mad
//! ```
//!
//! Each step makes calls, and claims what they got, what the backend saw of them and what the decision log says. What did
//! not reach the backend was not let through: the backend's own count is the witness.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use shared::cli::Unready;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::report::Story;
use shared::tools;

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

/// How long Envoy may take to get ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long any other wait may take. Far more than it ever should; a slow machine is no failure.
const LIMIT: Duration = Duration::from_secs(30);

/// How often is looked.
const OFTEN: Duration = Duration::from_millis(5);

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The Envoy to use; found or installed if not given.
    pub envoy: Option<PathBuf>,
    /// Use the lab ports, because everything shall stay up after the story.
    pub stay: bool,
    /// The only step to run; all of them if none is named.
    pub step: Option<Step>,
}

/// A part of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Step {
    /// No token, and tokens that are not to be believed
    Tokens,
    /// What a reader and an admin may do
    Rights,
    /// What the backend sees
    Headers,
    /// Client certificates in place of tokens
    Certificates,
    /// Policies and keys that change
    Reloading,
    /// Request bodies for the authorizer
    Bodies,
    /// Authorizers that are down, slow or mad
    Failures,
    /// An authorizer that leaves while calls run
    Draining,
    /// What asking costs
    Cost,
}

impl Step {
    /// Its title in the story.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tokens => "Nine callers who do not prove who they are, and one who does",
            Self::Rights => "A reader and an admin ask for the same things",
            Self::Headers => "What the backend sees of a call",
            Self::Certificates => "A client certificate in place of a token",
            Self::Reloading => "Policies and keys change while everything runs",
            Self::Bodies => "The authorizer looks at request bodies",
            Self::Failures => {
                "The authorizer fails in six ways, at doors that fail closed and doors that fail open"
            }
            Self::Draining => "One of two authorizers leaves while calls run",
            Self::Cost => "What asking costs",
        }
    }
}

/// Tells the whole story, or the one step that the plan names.
///
/// # Errors
/// If something that the story needs cannot be had or breaks; a claim that does not hold is no error.
pub async fn run(plan: &Plan, story: &mut Story, life: &Lifecycle) -> anyhow::Result<Mesh> {
    let program = tools::envoy(plan.envoy.as_deref()).await.map_err(Unready::new)?;
    story.version("envoy", &program.version);
    let mesh = Mesh::start(plan, &program, life).await?;
    for step in Step::value_variants() {
        if plan.step.is_some_and(|only| only != *step) {
            continue;
        }
        story.step(step.title());
        let scope = life.child();
        mesh.tell(*step, story, &scope).await?;
        scope.shut_down(GRACE).await?;
    }
    mesh.log_holds_no_token(story).await?;
    Ok(mesh)
}

impl Mesh {
    async fn tell(&self, step: Step, story: &mut Story, scope: &Lifecycle) -> anyhow::Result<()> {
        match step {
            Step::Tokens => self.tokens(story).await,
            Step::Rights => self.rights(story).await,
            Step::Headers => self.headers(story).await,
            Step::Certificates => self.certificates(story).await,
            Step::Reloading => self.reloading(story).await,
            Step::Bodies => self.bodies(story).await,
            Step::Failures => self.failures(story).await,
            Step::Draining => self.draining(story, scope).await,
            Step::Cost => self.cost(story).await,
        }
    }
}
