//! B is slow, by a `PUT /fault` as a person would do it: who shows it, how exactly, and who does not.

use std::time::Duration;

use shared::report::Recorder;

use super::load::Load;
use super::mesh::Mesh;
use super::traffic::bucket;
use super::values::{WINDOW, quantile, shown};

/// What B is delayed by.
const DELAY_MS: u16 = 300;

/// The bucket of durations that holds the delay begins here, in milliseconds, for the services and for Envoy.
pub(super) const SLOW: f64 = 250.0;

impl Mesh {
    /// Latency is injected in B: who shows it, and who does not.
    pub(super) async fn is_slow(&self, story: &mut Recorder, before: &Load) -> anyhow::Result<()> {
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
    async fn is_right_to_within_a_bucket(&self, story: &mut Recorder, load: &Load) -> anyhow::Result<()> {
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
    async fn p99s_cannot_be_averaged(&self, story: &mut Recorder, load: &Load) -> anyhow::Result<()> {
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
}
