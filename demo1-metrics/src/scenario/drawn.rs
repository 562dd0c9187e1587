//! The run as curves: two lines in the terminal, and the dashboard's panels as files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use shared::report::Recorder;

use super::mesh::Mesh;
use super::values::quantile;
use crate::dashboard::{self, Dashboard};
use crate::pictures::{self, Picture};
use crate::prometheus::{self, EVERY};
use crate::{plot, topology};

/// The edges that the pictures show: those where something happens.
const SOURCE: &str = "a";
const DESTINATIONS: &str = "b|c";

/// What stands for `$__rate_interval`: four times the time between two scrapes, as Grafana takes it.
const WINDOW: &str = "2s";

impl Mesh {
    /// The rate and the p99 of the first edge over the whole run, as two curves.
    pub(super) async fn shows_the_run(&self, story: &Recorder, begun: SystemTime) -> anyhow::Result<()> {
        let Some(prometheus) = self.prometheus() else { return Ok(()) };
        let (from, to) = topology::EDGES[0];
        let edge = format!("instance=\"{from}\",envoy_cluster_name=\"{to}\"");
        let rate = format!("sum(rate(envoy_cluster_upstream_rq_total{{{edge}}}[2s]))");
        story.note(format!("the edge {from} -> {to} over the run, a second each:"));
        for (name, query, unit) in [("rate", rate, "requests/s"), ("p99", quantile(0.99, &edge, "2s"), "ms")]
        {
            let span = (begun, SystemTime::now());
            let series = prometheus.range(&query, span, Duration::from_secs(1)).await?;
            // A second without a sample is a gap: before the first scrape, and a p99 of no requests.
            let points = series.into_iter().next().map(|one| one.points).unwrap_or_default();
            let values = plot::each_second(&points, prometheus::seconds(begun));
            let most = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
            story.note(format!("{name:>5} |{}| up to {most:.0} {unit}", plot::line(&values)));
        }
        Ok(())
    }

    /// Every panel of the dashboard as a file in this folder, by the dashboard's own expressions.
    pub(super) async fn draws(
        &self,
        story: &Recorder,
        begun: SystemTime,
        folder: &Path,
    ) -> anyhow::Result<()> {
        let prometheus = self.prometheus().context("pictures are drawn of what Prometheus has")?;
        let dashboard = Dashboard::ours()?;
        let variables = BTreeMap::from([
            ("source".to_owned(), SOURCE.to_owned()),
            ("destination".to_owned(), DESTINATIONS.to_owned()),
        ]);
        let span = (begun, SystemTime::now());
        let zero = prometheus::seconds(begun);
        // Since the run began.
        let since = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
            points.iter().map(|(at, value)| (at - zero, *value)).collect()
        };
        let mut marks = Vec::new();
        for annotation in dashboard.annotations() {
            for series in prometheus.range(&annotation.expr, span, EVERY).await? {
                let name = dashboard::legend("fault in {{instance}}", &series);
                let spans = pictures::spans(&since(&series.points));
                marks.extend(spans.into_iter().map(|(from, to)| (name.clone(), from, to)));
            }
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut drawn = 0;
        for panel in dashboard.panels.iter().filter(|panel| !panel.targets.is_empty()) {
            let mut curves = Vec::new();
            for target in &panel.targets {
                let query = dashboard::fill(&target.expr, &variables, WINDOW);
                for series in prometheus.range(&query, span, EVERY).await? {
                    curves.push((dashboard::legend(&target.legend, &series), since(&series.points)));
                }
            }
            let picture = Picture {
                title: &panel.title,
                unit: panel.unit(),
                span: (0.0, prometheus::seconds(span.1) - zero),
                curves,
                marks: marks.clone(),
            };
            let svg = picture.svg().map_err(anyhow::Error::msg)?;
            let file = folder.join(pictures::file_name(&panel.title));
            std::fs::write(&file, svg).with_context(|| format!("cannot write {}", file.display()))?;
            drawn += 1;
        }
        story.note(format!("{drawn} panels are drawn in {}", folder.display()));
        Ok(())
    }
}
