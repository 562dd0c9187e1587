//! Two faults, each injected by a `PUT /fault` as a person would: who shows them, and who hides them.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::json;
use shared::poll;
use shared::report::Story;

use super::traffic::bucket;
use super::{DURATION, Load, Mesh, NO_PROMETHEUS, WINDOW, quantile, same, shown};
use crate::prometheus::Series;

/// What B is delayed by.
const DELAY_MS: u16 = 300;

/// The bucket of durations that holds the delay begins here, in milliseconds, for the services and for Envoy.
pub(super) const SLOW: f64 = 250.0;

/// How long an alert may take.
const LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);

/// The share of C's requests that fail, in percent.
const ERRORS: u8 = 20;

impl Mesh {
    /// Tells a service to misbehave; nothing ends it.
    async fn fault(&self, service: &str, delay_ms: u16, error_percent: u8) -> anyhow::Result<()> {
        let body = json!({ "delay_ms": delay_ms, "error_percent": error_percent }).to_string();
        let uri = format!("http://{}/fault", self.target("service", service)?.address);
        let answer = self.client.send(Request::put(uri).body(Full::<Bytes>::from(body))?).await?;
        anyhow::ensure!(answer.status().is_success(), "{service} refused the fault: {}", answer.status());
        Ok(())
    }

    /// Latency is injected in B: who shows it, and who does not.
    pub(super) async fn is_slow(&self, story: &mut Story, before: &Load) -> anyhow::Result<()> {
        self.fault("b", DELAY_MS, 0).await?;
        let delay = Duration::from_millis(DELAY_MS.into());
        let load = self.steady_load(story, "requests, with a slow B", delay).await?;
        self.fault("b", 0, 0).await?;
        let p50 = load.outcome.latencies.percentile(50.0);
        story.claim(
            "slow-for-callers",
            "Callers wait for B",
            format!("p50 of at least {DELAY_MS} ms, by the load's own clock"),
            format!(
                "{} ms, {} ms before",
                p50.as_millis(),
                before.outcome.latencies.percentile(50.0).as_millis()
            ),
            p50 >= delay,
        );
        let service = |name: &str| {
            let selector = format!("job=\"service\",instance=\"{name}\"");
            format!(
                "1000 * histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{{{selector}}}[{WINDOW}])))"
            )
        };
        let edge = |to: &str| quantile(0.99, &format!("instance=\"a\",envoy_cluster_name=\"{to}\""), WINDOW);
        let questions = [
            ("slow-edge", "The edge A -> B shows it", edge("b"), true),
            ("slow-a", "A itself shows it, which waits for B", service("a"), true),
            ("quick-edge", "The edge A -> C does not", edge("c"), false),
            ("quick-c", "C does not", service("c"), false),
        ];
        for (id, claim, query, rises) in questions {
            let expected = if rises {
                format!("p99 rises to {SLOW} ms or more")
            } else {
                format!("p99 stays below {SLOW} ms")
            };
            let prometheus = match self.ask_about(before).and(self.ask_about(&load)) {
                Ok(prometheus) => prometheus,
                Err(why) => {
                    story.not_checked(id, claim, expected, why);
                    continue;
                }
            };
            let was = prometheus.value(&query, before.until).await?;
            let is = prometheus.value(&query, load.until).await?;
            let holds = was.zip(is).is_some_and(|(was, is)| was < SLOW && (is >= SLOW) == rises);
            story.claim(
                id,
                claim,
                expected,
                format!("{}, then {}", shown(was, "ms"), shown(is, "ms")),
                holds,
            );
        }
        self.is_right_to_within_a_bucket(story, &load).await?;
        self.p99s_cannot_be_averaged(story, &load).await
    }

    /// What Prometheus makes of buckets, against a clock that kept every duration.
    async fn is_right_to_within_a_bucket(&self, story: &mut Story, load: &Load) -> anyhow::Result<()> {
        let claim = "A p99 out of buckets is right to within a bucket, and no more";
        let truth = load.outcome.latencies.percentile(99.0);
        let (from, to) = bucket(truth);
        let expected =
            format!("front -> a from {from} to {to} ms, the bucket of the load's own p99, {truth:.1?}");
        let prometheus = match self.ask_about(load) {
            Ok(prometheus) => prometheus,
            Err(why) => {
                story.not_checked("p99-by-buckets", claim, expected, why);
                return Ok(());
            }
        };
        let query = quantile(0.99, r#"instance="front",envoy_cluster_name="a""#, WINDOW);
        let p99 = prometheus.value(&query, load.until).await?;
        let holds = p99.is_some_and(|p99| from < p99 && p99 <= to);
        story.claim(
            "p99-by-buckets",
            claim,
            expected,
            format!("{} for {truth:.1?}", shown(p99, "ms")),
            holds,
        );
        Ok(())
    }

    /// While B is slow and C is not: the p99 of all calls of both, and the mean of two p99s.
    async fn p99s_cannot_be_averaged(&self, story: &mut Story, load: &Load) -> anyhow::Result<()> {
        let claim = "The mean of two p99s is not the p99 of all calls; buckets can be added up";
        let expected =
            format!("of all calls {SLOW} ms or more, as half of them are slow; the mean is far below");
        let prometheus = match self.ask_about(load) {
            Ok(prometheus) => prometheus,
            Err(why) => {
                story.not_checked("p99-mean", claim, expected, why);
                return Ok(());
            }
        };
        let both = "instance=\"a\",envoy_cluster_name=~\"b|c\"";
        let mean = format!(
            "avg(histogram_quantile(0.99, sum by (le, envoy_cluster_name) (rate(envoy_cluster_upstream_rq_time_bucket{{{both}}}[{WINDOW}]))))"
        );
        let mean = prometheus.value(&mean, load.until).await?;
        let whole = prometheus.value(&quantile(0.99, both, WINDOW), load.until).await?;
        let apart = mean.zip(whole).is_some_and(|(mean, whole)| whole >= SLOW && mean < 0.8 * whole);
        let seen = format!("of all calls {}, the mean {}", shown(whole, "ms"), shown(mean, "ms"));
        story.claim("p99-mean", claim, expected, seen, apart);
        Ok(())
    }

    /// C fails; its caller's sidecar tries again; nobody in front notices, and the counters tell.
    pub(super) async fn fails(&self, story: &mut Story) -> anyhow::Result<()> {
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
    async fn told_by_alerts(&self, story: &mut Story) -> anyhow::Result<()> {
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
    async fn error_ratio(&self, story: &mut Story, load: &Load) -> anyhow::Result<()> {
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
