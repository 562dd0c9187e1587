//! The steps of the story: change something, ask what came of it, claim.

use std::time::{Duration, Instant};

use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Story;

use super::{BUDGET, Mesh, RATE, WINDOW, given, quantile, shown};
use crate::service::Fault;
use crate::topology::{EDGES, Keep};

/// What B is delayed by.
const DELAY_MS: u16 = 300;

/// The upper end of durations that count as quick, in milliseconds. Machines are noisy.
const QUICK: f64 = 200.0;

/// The share of C's requests that fail, in percent.
const ERRORS: u8 = 20;

const NO_PROMETHEUS: &str = "no Prometheus";

/// How long an alert, or its end, may take.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

impl Mesh {
    /// N requests sent are N at the front, N at A, and 2N at B and C together.
    pub(super) async fn counts(&self, story: &mut Story) -> anyhow::Result<()> {
        let counters = [
            (
                "envoy",
                "front",
                "envoy_http_downstream_rq_total",
                &[("envoy_http_conn_manager_prefix", "in")][..],
            ),
            ("envoy", "a", "envoy_http_downstream_rq_total", &[("envoy_http_conn_manager_prefix", "in")]),
            ("service", "a", "http_requests_total", &[]),
            ("service", "b", "http_requests_total", &[]),
            ("service", "c", "http_requests_total", &[]),
        ];
        let mut before = Vec::new();
        for (job, instance, metric, labels) in counters {
            before.push(self.sum(job, instance, metric, labels).await?);
        }
        let outcome = self.load(story, "requests").await?;
        story.tell(format!("{} requests, {RATE} a second: {}", outcome.sent, outcome.latencies));
        let mut seen = Vec::new();
        for ((job, instance, metric, labels), before) in counters.into_iter().zip(before) {
            seen.push(self.sum(job, instance, metric, labels).await? - before);
        }
        let [front, sidecar, a, b, c] = seen[..] else { anyhow::bail!("five counters") };
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let sent = outcome.sent as f64;
        story.claim(
            "all-succeed",
            "Every request is answered with success",
            "0 fail",
            format!(
                "{} fail{}",
                outcome.failed(),
                outcome.first_failure.map_or(String::new(), |why| format!(", the first: {why}"))
            ),
            outcome.sent == outcome.succeeded,
        );
        story.claim(
            "counts-agree",
            "What was sent is what the front, A's sidecar and A counted",
            format!("{sent} each"),
            format!("front {front}, A's sidecar {sidecar}, A {a}"),
            [front, sidecar, a].iter().all(|count| same(*count, sent)),
        );
        story.claim(
            "fan-out-agrees",
            "It is half of what B and C counted together",
            format!("{} together", 2.0 * sent),
            format!("B {b} + C {c} = {}", b + c),
            same(b + c, 2.0 * sent),
        );
        Ok(())
    }

    /// What PromQL says of each edge, right after the load.
    pub(super) async fn edges(&self, story: &mut Story) -> anyhow::Result<()> {
        let claim = "Each edge has the rate of the load, no errors, and quick answers";
        let expected = format!("{RATE}/s ± 10 %, 0 % errors, p99 below {QUICK} ms");
        let Some(prometheus) = self.prometheus() else {
            story.not_checked("edges", claim, expected, NO_PROMETHEUS);
            return Ok(());
        };
        let mut good = true;
        let mut lines = Vec::new();
        for (from, to) in EDGES {
            let edge = format!("instance=\"{from}\",envoy_cluster_name=\"{to}\"");
            let all = format!("sum(rate(envoy_cluster_upstream_rq_xx{{{edge}}}[{WINDOW}]))");
            let errors = format!(
                "sum(rate(envoy_cluster_upstream_rq_xx{{{edge},envoy_response_code_class=\"5\"}}[{WINDOW}])) or vector(0)"
            );
            let rate = given(prometheus.value(&all).await?, &all)?;
            let errors = given(prometheus.value(&errors).await?, &errors)?;
            let (p50, p99) = (
                prometheus.value(&quantile(0.5, &edge, WINDOW)).await?,
                prometheus.value(&quantile(0.99, &edge, WINDOW)).await?,
            );
            story.tell(format!(
                "{from:>5} -> {to}: {rate:.1}/s, {:.0} % errors, p50 {}, p99 {}",
                100.0 * errors / rate,
                shown(p50, "ms"),
                shown(p99, "ms")
            ));
            let fits = (rate / f64::from(RATE) - 1.0).abs() <= 0.1 && errors <= 0.0;
            good &= fits && p99.is_some_and(|p99| p99 < QUICK);
            lines.push(format!("{from}->{to} {rate:.1}/s p99 {}", shown(p99, "ms")));
        }
        story.claim("edges", claim, expected, lines.join(", "), good);
        Ok(())
    }

    /// Latency is injected in B: who shows it, and who does not.
    pub(super) async fn is_slow(&self, story: &mut Story) -> anyhow::Result<()> {
        self.service("b").misbehave(Fault { delay_ms: DELAY_MS, error_percent: 0 });
        let outcome = self.load(story, "requests, with a slow B").await?;
        self.service("b").misbehave(Fault::default());
        let p99 = outcome.latencies.percentile(99.0);
        story.claim(
            "slow-for-callers",
            "Callers wait for B",
            format!("p99 of at least {DELAY_MS} ms, by the load's own clock"),
            format!("{} ms", p99.as_millis()),
            p99 >= Duration::from_millis(DELAY_MS.into()),
        );
        let service = |name: &str| {
            format!(
                "1000 * histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{{service=\"{name}\"}}[{WINDOW}])))"
            )
        };
        let edge = |to: &str| quantile(0.99, &format!("instance=\"a\",envoy_cluster_name=\"{to}\""), WINDOW);
        // The bucket that holds 300 ms begins at 250 ms, both for the services and for Envoy.
        let (slow, quick) = (|p99: f64| p99 >= 250.0, |p99: f64| p99 < QUICK);
        let questions: [(&str, &str, String, &str, &dyn Fn(f64) -> bool); 4] = [
            ("slow-edge", "The edge A -> B shows it", edge("b"), "p99 of at least 250 ms", &slow),
            ("slow-a", "A itself shows it, which waits for B", service("a"), "p99 of at least 250 ms", &slow),
            ("quick-edge", "The edge A -> C does not", edge("c"), "p99 below 200 ms", &quick),
            ("quick-c", "C does not", service("c"), "p99 below 200 ms", &quick),
        ];
        for (id, claim, query, expected, fits) in questions {
            let Some(prometheus) = self.prometheus() else {
                story.not_checked(id, claim, expected, NO_PROMETHEUS);
                continue;
            };
            let p99 = prometheus.value(&query).await?;
            story.claim(id, claim, expected, shown(p99, "ms"), p99.is_some_and(fits));
        }
        let claim = "The mean of two p99s is not the p99 of both";
        let expected = "the p99 of all calls is the slow edge's, the mean is far from it";
        let Some(prometheus) = self.prometheus() else {
            story.not_checked("p99-mean", claim, expected, NO_PROMETHEUS);
            return Ok(());
        };
        let both = "instance=\"a\",envoy_cluster_name=~\"b|c\"";
        let mean = format!(
            "avg(histogram_quantile(0.99, sum by (le, envoy_cluster_name) (rate(envoy_cluster_upstream_rq_time_bucket{{{both}}}[{WINDOW}]))))"
        );
        let mean = prometheus.value(&mean).await?;
        let whole = prometheus.value(&quantile(0.99, both, WINDOW)).await?;
        let apart = mean.zip(whole).is_some_and(|(mean, whole)| slow(whole) && mean < 0.8 * whole);
        let seen = format!("mean {}, of all calls {}", shown(mean, "ms"), shown(whole, "ms"));
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
        self.service("c").misbehave(Fault { delay_ms: 0, error_percent: ERRORS });
        let outcome = self.load(story, "requests, with a failing C").await?;
        self.service("c").misbehave(Fault::default());
        let (all, errors, again) =
            (c(&[]).await? - before.0, c(&[("code", "503")]).await? - before.1, retries().await? - before.2);
        let ratio = 100.0 * errors / all;
        story.claim(
            "errors-at-c",
            "C's own counters show the errors",
            format!("{ERRORS} % ± 1"),
            format!("{errors} of {all}: {ratio:.1} %"),
            (ratio - f64::from(ERRORS)).abs() <= 1.0,
        );
        story.claim(
            "retries-hide-them",
            "Callers see none: Envoy's retries hide them",
            "0 fail",
            format!("{} of {} fail", outcome.failed(), outcome.sent),
            outcome.failed() == 0,
        );
        story.claim(
            "retries-tell",
            "The retry counter tells the truth",
            format!("{errors}, one for each error"),
            format!("{again} retries"),
            same(again, errors) && errors > 0.0,
        );
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let sent = outcome.sent as f64;
        story.claim(
            "retries-are-load",
            "Retries are load: C gets more than was sent",
            format!("{sent} + {again}"),
            all,
            same(all, sent + again),
        );
        Ok(())
    }

    /// An Envoy dies: its target is down, and an alert fires.
    pub(super) async fn loses_a_sidecar(&mut self, story: &mut Story) -> anyhow::Result<()> {
        self.kill("c")?;
        let killed = Instant::now();
        let questions = [
            ("down", "Prometheus notices", r#"up{job="envoy",instance="c"} == bool 0"#, "up == 0"),
            (
                "alert",
                "The alert fires",
                r#"ALERTS{alertname="EnvoyDown",instance="c",alertstate="firing"}"#,
                "EnvoyDown is firing",
            ),
        ];
        for (id, claim, query, expected) in questions {
            let Some(prometheus) = self.prometheus() else {
                story.not_checked(id, claim, expected, NO_PROMETHEUS);
                continue;
            };
            let seen = poll::wait_until(expected, LOOK, LIMIT, || async {
                match prometheus.value(query).await {
                    Ok(Some(value)) if same(value, 1.0) => Ok(()),
                    Ok(value) => Err(shown(value, "")),
                    Err(error) => Err(error.to_string()),
                }
            });
            let (seen, holds) = match seen.await {
                Ok(()) => (format!("{expected}, after {} ms", killed.elapsed().as_millis()), true),
                Err(error) => (error.to_string(), false),
            };
            story.claim(id, claim, expected, seen, holds);
        }
        let claim = "The service behind it is well, which its own metrics say";
        match self.prometheus() {
            None => story.not_checked("service-up", claim, "up == 1", NO_PROMETHEUS),
            Some(prometheus) => {
                let up = prometheus.value(r#"up{job="service",instance="c"}"#).await?;
                story.claim(
                    "service-up",
                    claim,
                    "up == 1",
                    shown(up, ""),
                    up.is_some_and(|up| same(up, 1.0)),
                );
            }
        }
        Ok(())
    }

    /// Series cost memory: how many an Envoy has, and how many it needs.
    pub(super) async fn is_cut_down(&mut self, story: &mut Story, life: &Lifecycle) -> anyhow::Result<()> {
        let all = self.page("envoy", "front", "").await?.len();
        let used = self.page("envoy", "front", "?usedonly").await?.len();
        self.revive("c", Keep::Needed, life).await?;
        // One request, so that its counters are there.
        let outcome = self.load(story, "requests").await?;
        let kept = self.page("envoy", "c", "").await?.len();
        story
            .tell(format!("series of an Envoy: {all}; with ?usedonly {used}; with an inclusion list {kept}"));
        story.claim(
            "usedonly",
            "Statistics that never changed can be left out of a scrape",
            format!("fewer than {all}"),
            used,
            used < all,
        );
        story.claim(
            "budget",
            "An inclusion list holds an Envoy under the budget",
            format!("at most {BUDGET}, of {all}"),
            kept,
            kept <= BUDGET && kept > 0,
        );
        let calls = [("envoy_http_conn_manager_prefix", "in")];
        let counted = self.sum("envoy", "c", "envoy_http_downstream_rq_total", &calls).await?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let sent = outcome.sent as f64;
        story.claim(
            "cut-down-counts",
            "What is read is still there",
            format!("{sent} requests counted by C's sidecar"),
            counted,
            same(counted, sent),
        );
        Ok(())
    }
}

/// Whether two counts are the same: whole numbers in floating point.
fn same(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.5
}
