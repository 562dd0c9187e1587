//! C fails, by a `PUT /fault` as a person would do it: who shows it, who hides it, and what tells all the same.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use shared::poll;
use shared::report::Recorder;

use super::load::{DURATION, Load};
use super::mesh::Mesh;
use super::values::{NO_PROMETHEUS, WINDOW, same};
use crate::prometheus::Series;

/// The share of C's requests that fail, in percent.
const ERRORS: u8 = 20;

/// How long an alert may take.
const LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);

impl Mesh {
    /// C fails; its caller's sidecar tries again; nobody in front notices, and the counters tell.
    pub(super) async fn fails(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let c = async |code: &[(&str, &str)]| self.sum("service", "c", "http_requests_total", code).await;
        let retries = async || {
            let edge = [("envoy_cluster_name", "c")];
            self.sum("envoy", "a", "envoy_cluster_upstream_rq_retry", &edge).await
        };
        let before = (c(&[]).await?, c(&[("code", "503")]).await?, retries().await?);
        self.fault("c", 0, ERRORS).await?;
        let load = self.load(story, "requests, with a failing C", DURATION).await?;
        self.fault("c", 0, 0).await?;
        let (all, errors, again) =
            (c(&[]).await? - before.0, c(&[("code", "503")]).await? - before.1, retries().await? - before.2);
        anyhow::ensure!(all > 0.0, "C counted nothing");
        let ratio = 100.0 * errors / all;
        story.claim(
            "errors-at-c",
            "C's own counters show the errors",
            format!("{ERRORS} % ± 1"),
            format!("{errors} of {all}: {ratio:.1} %"),
            (ratio - f64::from(ERRORS)).abs() <= 1.0,
        );
        self.error_ratio(story, &load).await?;
        story.claim(
            "retries-hide-them",
            "Callers see none: Envoy's retries hide them",
            "0 fail",
            format!("{} of {} fail", load.failed, load.sent),
            load.failed == 0,
        );
        story.claim(
            "retries-tell",
            "The retry counter tells the truth",
            format!("{errors}, one for each error"),
            format!("{again} retries"),
            same(again, errors) && errors > 0.0,
        );
        story.claim(
            "retries-are-load",
            "Retries are load: C gets more than was sent",
            format!("{} + {again}", load.sent),
            all,
            same(all, load.sent + again),
        );
        self.told_by_alerts(story).await
    }

    /// Which alerts fired while C failed: where errors are not tried again, and where they are.
    async fn told_by_alerts(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let claim =
            "Beside C an alert for errors fires; at its caller, whose retries hide them, one for retries";
        let expected = ["ErrorsOnAnEdge c -> local", "RetriesHideErrors a -> c"];
        let Some(prometheus) = self.prometheus() else {
            story.not_checked("fault-alerts", claim, expected.join(", "), NO_PROMETHEUS);
            return Ok(());
        };
        // They may fire a moment after the load, whose last seconds they look at.
        let fired = r#"max by (alertname, instance, envoy_cluster_name) (max_over_time(ALERTS{alertname!="EnvoyDown",alertstate="firing"}[20s]))"#;
        let seen = poll::wait_until("alerts", LOOK, LIMIT, || async {
            let fired =
                prometheus.instant(fired, SystemTime::now()).await.map_err(|error| error.to_string())?;
            let name = |series: &Series| {
                let label = |name: &str| series.labels.get(name).map_or("", String::as_str);
                format!("{} {} -> {}", label("alertname"), label("instance"), label("envoy_cluster_name"))
            };
            let mut fired: Vec<String> = fired.iter().map(name).collect();
            fired.sort();
            if fired.len() >= expected.len() { Ok(fired) } else { Err(fired.join(", ")) }
        });
        let (seen, holds) = match seen.await {
            Ok(fired) => (fired.join(", "), fired == expected),
            Err(error) => (error.to_string(), false),
        };
        story.claim("fault-alerts", claim, expected.join(", "), seen, holds);
        Ok(())
    }

    /// The same by PromQL, over the last seconds of the load: what C says, and what A's callers see.
    async fn error_ratio(&self, story: &mut Recorder, load: &Load) -> anyhow::Result<()> {
        let claim = "The error ratio shows them at C, and not at A";
        let expected = format!("C {ERRORS} % ± 5, A 0 %");
        let Some(prometheus) = self.prometheus() else {
            story.not_checked("error-ratio", claim, expected, NO_PROMETHEUS);
            return Ok(());
        };
        let mut ratios = Vec::new();
        for instance in ["c", "a"] {
            let of = |code: &str| {
                format!(
                    "sum(rate(http_requests_total{{job=\"service\",instance=\"{instance}\"{code}}}[{WINDOW}]))"
                )
            };
            let query = format!("100 * {} / {}", of(",code=~\"5..\""), of(""));
            let ratio = prometheus.value(&query, load.until).await?;
            ratios.push(ratio.with_context(|| format!("no data for {query}"))?);
        }
        let holds = (ratios[0] - f64::from(ERRORS)).abs() <= 5.0 && ratios[1] <= 0.0;
        story.claim(
            "error-ratio",
            claim,
            expected,
            format!("C {:.1} %, A {:.1} %", ratios[0], ratios[1]),
            holds,
        );
        Ok(())
    }
}
