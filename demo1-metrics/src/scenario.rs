//! The story: send known work through the mesh, and hold what the metrics say against what was sent.
//!
//! Each step changes something and asks Prometheus what came of it. Where there is no Prometheus, counters are read
//! from the same pages directly, once before and once after, and what needs PromQL is *not checked*.

use std::time::SystemTime;

use shared::cli::{LiveEnvironment, SetupError};
use shared::lifecycle::Lifecycle;
use shared::report::Recorder;
use shared::tools;

use crate::plan::Plan;
use crate::prometheus;

mod values;

mod load;

mod mesh;

mod send;

mod traffic;

mod slow;

mod errors;

mod outage;

mod drawn;

pub use mesh::Mesh;
pub use outage::BUDGET;

/// Tells the whole story.
///
/// # Errors
/// If something breaks; a claim that does not hold is no error, and a machine without Prometheus is none.
pub async fn run(plan: &Plan, story: &mut Recorder, life: &Lifecycle) -> anyhow::Result<Mesh> {
    let envoy = tools::envoy(plan.envoy.as_deref()).await.map_err(SetupError::new)?;
    story.version("envoy", &envoy.version);
    let program = if plan.without_prometheus {
        None
    } else {
        prometheus::find(plan.prometheus.as_deref()).await.map_err(SetupError::new)?
    };
    match &program {
        Some(program) => story.version("prometheus", &program.version),
        None => story.note(format!(
            "no Prometheus: counters are read from the same pages, and what needs PromQL is not checked\n   \
             (to get one: {})",
            prometheus::REMEDY
        )),
    }
    if plan.pictures.is_some() && program.is_none() {
        return Err(SetupError::new(NothingToDraw).into());
    }
    let mut mesh = Mesh::start(plan, envoy, program.as_ref(), life).await?;
    let begun = SystemTime::now();
    story.step("Every request is counted, by everybody whom it passes");
    let first = mesh.counts(story).await?;
    mesh.keeps_ids(story).await?;
    story.step("Rate, errors and duration of each edge of the mesh");
    mesh.edges(story, &first).await?;
    story.step("B answers 300 ms later");
    mesh.is_slow(story, &first).await?;
    story.step("C fails every fifth request, and Envoy tries again");
    mesh.fails(story).await?;
    story.step("A sidecar is killed");
    mesh.loses_a_sidecar(story).await?;
    story.step("It returns, with statistics that are cut down");
    mesh.is_cut_down(story, life).await?;
    mesh.shows_the_run(story, begun).await?;
    if let Some(folder) = &plan.pictures {
        mesh.draws(story, begun, folder).await?;
    }
    Ok(mesh)
}

/// Pictures were asked for, and nobody keeps what they would show.
#[derive(Debug, thiserror::Error)]
#[error("pictures are drawn of what Prometheus has, and there is none ({})", prometheus::REMEDY)]
struct NothingToDraw;

impl LiveEnvironment for Mesh {
    fn instructions(&self) -> String {
        let prometheus = self.prometheus().map_or_else(
            || "\n  (no Prometheus in this run)".to_owned(),
            // Its root knows where its pages are, which differs between builds.
            |api| {
                format!(
                    "\n  http://{}/     Prometheus, in a browser: ask it for `up`, or `ALERTS`",
                    api.address()
                )
            },
        );
        let at = |job: &str, instance: &str| match self.target(job, instance) {
            Ok(target) => format!("http://{}{}", target.address, target.path()),
            Err(error) => error.to_string(),
        };
        let fault = at("service", "b").replace("/metrics", "/fault");
        format!(
            "Everything stays up until Ctrl-C. Try, from another terminal:\n\
             \n  curl -s http://{front}/\
             \n  cargo run -p demo1-metrics --bin demo1-load -- --target http://{front}/ --rate 50 --duration 60\
             \n  curl -X PUT {fault} -d '{{\"delay_ms\": 300}}'     and {{}} to end it\
             \n  curl -s {}\
             \n  curl -s '{}?usedonly'{prometheus}\n",
            at("service", "b"),
            at("envoy", "front"),
            front = self.front(),
        )
    }
}
