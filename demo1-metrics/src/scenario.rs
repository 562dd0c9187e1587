//! The story: send known work through the mesh, and hold what the metrics say against what was sent.
//!
//! Each step changes something and asks Prometheus what came of it. Where there is no Prometheus, counters are read
//! from the same pages directly, once before and once after, and what needs PromQL is *not checked*.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use shared::cli::{Stays, Unready};
use shared::lifecycle::Lifecycle;
use shared::report::Story;
use shared::tools;

use crate::load::{self, Outcome};
use crate::prometheus;

mod mesh;

mod traffic;

mod slow;

mod errors;

mod outage;

mod drawn;

pub use mesh::Mesh;

/// Requests a second in each step.
const RATE: u32 = 50;

/// How long each load lasts: longer than the window of the questions, so that they see nothing else.
const DURATION: Duration = Duration::from_secs(6);

/// The window of rates and quantiles.
const WINDOW: &str = "5s";

/// How much later than it should an answer may come, or else the machine was too busy to judge durations by it. Far
/// enough below [`slow::SLOW`] that no stall looks like an injected delay.
const STALL: Duration = Duration::from_millis(150);

/// How often such a load is sent at most.
const TRIES: u32 = 6;

const NO_PROMETHEUS: &str = "no Prometheus";

/// Series that one Envoy may have once its statistics are cut down to what is read.
pub const BUDGET: usize = 200;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The Envoy to use; found or installed if not given.
    pub envoy: Option<PathBuf>,
    /// The Prometheus to use; found if not given.
    pub prometheus: Option<PathBuf>,
    /// Do without Prometheus though there may be one.
    pub without_prometheus: bool,
    /// Draw the dashboard's panels into this folder.
    pub pictures: Option<PathBuf>,
    /// Use the lab ports, because everything shall stay up after the story.
    pub stay: bool,
}

/// Tells the whole story.
///
/// # Errors
/// If something breaks; a claim that does not hold is no error, and a machine without Prometheus is none.
pub async fn run(plan: &Plan, story: &mut Story, life: &Lifecycle) -> anyhow::Result<Mesh> {
    let envoy = tools::envoy(plan.envoy.as_deref()).await.map_err(Unready::new)?;
    story.version("envoy", &envoy.version);
    let program = if plan.without_prometheus {
        None
    } else {
        prometheus::find(plan.prometheus.as_deref()).await.map_err(Unready::new)?
    };
    match &program {
        Some(program) => story.version("prometheus", &program.version),
        None => story.tell(format!(
            "no Prometheus: counters are read from the same pages, and what needs PromQL is not checked\n   \
             (to get one: {})",
            prometheus::REMEDY
        )),
    }
    if plan.pictures.is_some() && program.is_none() {
        return Err(Unready::new(NothingToDraw).into());
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

/// A load that was sent, answered, and scraped.
#[derive(Debug)]
struct Load {
    /// What came back of the last try.
    outcome: Outcome,
    /// Requests of all tries, as a number that counters can be held against.
    sent: f64,
    /// Of these, how many failed.
    failed: u64,
    /// When its last request was due. A window before this moment holds nothing but the load.
    until: SystemTime,
    /// Why durations and rates say more about the machine than about the mesh, if they do.
    disturbed: Option<String>,
}

impl Mesh {
    /// Sends a load to the front, and waits until what came of it was scraped.
    async fn load(&self, story: &Story, what: &str, duration: Duration) -> anyhow::Result<Load> {
        let plan = load::Plan { uri: format!("http://{}/", self.front()).parse()?, rate: RATE, duration };
        let bar = story.progress(what, plan.requests());
        let until = SystemTime::now() + duration;
        let outcome = plan.run(|| bar.inc(1)).await;
        bar.finish_and_clear();
        self.catch_up().await?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let sent = outcome.sent as f64;
        Ok(Load { sent, failed: outcome.failed(), outcome, until, disturbed: None })
    }

    /// A load whose durations are to be judged. Where the load's own clock says that the machine stood still, because
    /// it had other work, it is sent again; counts stay exact, since all tries are counted.
    async fn steady_load(&self, story: &Story, what: &str, delay: Duration) -> anyhow::Result<Load> {
        let (mut sent, mut failed, mut tries) = (0.0, 0, 0);
        loop {
            tries += 1;
            let load = self.load(story, what, DURATION).await?;
            sent += load.sent;
            failed += load.failed;
            // All but one request of the 300. So at most one of those in a window can be later, and no p99 is.
            let took = load.outcome.latencies.percentile(99.5);
            let stalled = took.saturating_sub(delay);
            let load = Load { sent, failed, ..load };
            if stalled <= STALL {
                return Ok(load);
            }
            let why = format!("the machine is too busy: answers came {stalled:.0?} late");
            if tries == TRIES {
                return Ok(Load { disturbed: Some(why), ..load });
            }
            story.tell(format!("{why}; once more"));
        }
    }
}

/// A quantile of how long the calls of clusters took, in milliseconds, by PromQL.
fn quantile(of: f64, selector: &str, window: &str) -> String {
    format!(
        "histogram_quantile({of}, sum by (le) (rate(envoy_cluster_upstream_rq_time_bucket{{{selector}}}[{window}])))"
    )
}

impl Stays for Mesh {
    fn invitation(&self) -> String {
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

/// The text of a measured number, or that there is none.
fn shown(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "no data".to_owned(), |value| format!("{value:.1} {unit}"))
}

/// An answer that has to be there.
fn given(value: Option<f64>, query: &str) -> anyhow::Result<f64> {
    value.with_context(|| format!("no data for {query}"))
}

/// Whether two counts are the same: whole numbers in floating point.
fn same(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.5
}
