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

use crate::load;
use crate::plot;
use crate::prometheus::{self, Prometheus};

mod mesh;

mod steps;

pub use mesh::Mesh;

/// Requests a second in each step.
const RATE: u32 = 50;

/// How long each load lasts: longer than the window of the questions, so that they see nothing else.
const DURATION: Duration = Duration::from_secs(6);

/// The window of rates and quantiles.
const WINDOW: &str = "5s";

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
    /// Use the lab ports, because everything shall stay up after the story.
    pub stay: bool,
}

/// Tells the whole story.
///
/// # Errors
/// If something breaks; a claim that does not hold is no error, and a machine without Prometheus is none.
pub async fn run(plan: &Plan, story: &mut Story, life: &Lifecycle) -> anyhow::Result<Mesh> {
    let begun = SystemTime::now();
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
    let mut mesh = Mesh::start(plan, envoy, program.as_ref(), life).await?;
    story.step("Every request is counted, by everybody whom it passes");
    mesh.counts(story).await?;
    story.step("Rate, errors and duration of each edge of the mesh");
    mesh.edges(story).await?;
    story.step("B answers 300 ms later");
    mesh.is_slow(story).await?;
    story.step("C fails every fifth request, and Envoy tries again");
    mesh.fails(story).await?;
    story.step("A sidecar is killed");
    mesh.loses_a_sidecar(story).await?;
    story.step("It returns, with statistics that are cut down");
    mesh.is_cut_down(story, life).await?;
    mesh.shows_the_run(story, begun).await?;
    Ok(mesh)
}

impl Mesh {
    /// Sends one step's load to the front, and waits until what came of it was scraped.
    async fn load(&self, story: &Story, what: &str) -> anyhow::Result<load::Outcome> {
        let plan = load::Plan { uri: self.front()?, rate: RATE, duration: DURATION };
        let bar = story.progress(what, plan.requests());
        let outcome = plan.run(|| bar.inc(1)).await;
        bar.finish_and_clear();
        if let Some(prometheus) = self.prometheus() {
            prometheus.catch_up().await?;
        }
        Ok(outcome)
    }

    /// The rate and the p99 of the first edge over the whole run, as two curves.
    async fn shows_the_run(&self, story: &Story, begun: SystemTime) -> anyhow::Result<()> {
        let Some(prometheus) = self.prometheus() else { return Ok(()) };
        let step = Duration::from_secs(1);
        let rate =
            r#"sum(rate(envoy_cluster_upstream_rq_total{instance="front",envoy_cluster_name="a"}[2s]))"#;
        let p99 = quantile(0.99, r#"instance="front",envoy_cluster_name="a""#, "2s");
        story.tell("the edge front -> a over the run, a second each:");
        for (name, query, unit) in [("rate", rate, "requests/s"), ("p99", p99.as_str(), "ms")] {
            let values: Vec<f64> =
                prometheus.range(query, begun, step).await?.into_iter().map(|(_, value)| value).collect();
            let most = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
            story.tell(format!("{name:>5} |{}| up to {most:.0} {unit}", plot::line(&values)));
        }
        Ok(())
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
        let prometheus = self.prometheus().map(Prometheus::address);
        let prometheus = prometheus.map_or_else(
            || "\n  (no Prometheus: none was found)".to_owned(),
            |at| format!("\n  http://{at}/alerts and http://{at}/graph   Prometheus, in a browser"),
        );
        let services = self.services();
        format!(
            "Everything stays up until Ctrl-C. Try, from another terminal:\n\
             \n  curl -s http://{front}/\
             \n  cargo run -p demo1-metrics --bin demo1-load -- --target http://{front}/ --rate 50 --duration 60\
             \n  curl -X PUT http://{b}/fault -d '{{\"delay_ms\": 300}}'\
             \n  curl -s http://{b}/metrics\
             \n  curl -s 'http://{admin}/stats/prometheus?usedonly'{prometheus}\n",
            front = self.places().front,
            b = services["b"],
            admin = self.admins()["front"],
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
