//! Known work, counted by everybody whom it passes; and each edge by rate, errors and duration.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use shared::report::Recorder;

use super::load::{Load, RATE};
use super::mesh::Mesh;
use super::values::{WINDOW, given, quantile, same, shown};
use crate::topology::EDGES;

/// What a caller that traces would send: the example of the specification (W3C Trace Context).
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// How far a rate may be from the load's own. What a wrong query gives is farther: twice, a tenth, a thousandth.
const TOLERANCE: f64 = 0.25;

/// Upper ends of Envoy's buckets for durations in milliseconds, as far as a request may last.
const BUCKETS: [f64; 15] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 30_000.0,
    60_000.0,
];

impl Mesh {
    /// N requests sent are N at the front, N at A, and 2N at B and C together.
    pub(super) async fn counts(&self, story: &mut Recorder) -> anyhow::Result<Load> {
        let downstream = [("envoy_http_conn_manager_prefix", "in")];
        let counters = [
            ("envoy", "front", "envoy_http_downstream_rq_total", &downstream[..]),
            ("envoy", "a", "envoy_http_downstream_rq_total", &downstream),
            ("service", "a", "http_requests_total", &[]),
            ("service", "b", "http_requests_total", &[]),
            ("service", "c", "http_requests_total", &[]),
        ];
        let count = async |(job, instance, metric, labels)| self.sum(job, instance, metric, labels).await;
        let mut before = Vec::new();
        for counter in counters {
            before.push(count(counter).await?);
        }
        let load = self.steady_load(story, "requests", Duration::ZERO).await?;
        story.note(format!("{} requests, {RATE} a second: {}", load.outcome.sent, load.outcome.latencies));
        let mut seen = Vec::new();
        for (counter, before) in counters.into_iter().zip(before) {
            seen.push(count(counter).await? - before);
        }
        let [front, sidecar, a, b, c] = seen[..] else { anyhow::bail!("five counters") };
        let sent = load.sent;
        let first =
            load.outcome.first_failure.as_ref().map_or(String::new(), |why| format!(", the first: {why}"));
        story.claim(
            "all-succeed",
            "Every request is answered with success",
            "0 fail",
            format!("{} fail{first}", load.failed),
            load.failed == 0,
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
        Ok(load)
    }

    /// One request with a trace: what A, B and C say that they were given.
    pub(super) async fn keeps_ids(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let request = Request::get(format!("http://{}/", self.front()))
            .header("traceparent", TRACE)
            .body(Full::<Bytes>::default())?;
        let answer = self.client.send(request).await?;
        let page: Value = serde_json::from_slice(answer.body()).context("A's page is no JSON")?;
        let pages = [&page, &page["said"]["b"], &page["said"]["c"]];
        let field = |name: &str| pages.map(|page| page[name].as_str().unwrap_or("none").to_owned());
        let (who, ids, traces) = (field("service"), field("request_id"), field("traceparent"));
        let kept =
            ids.iter().all(|id| *id == ids[0] && id != "none") && traces.iter().all(|trace| trace == TRACE);
        story.claim(
            "ids-are-kept",
            "A request keeps its id, given by the front, and its caller's trace on all its way",
            "a, b and c were given the same x-request-id, and the traceparent that was sent",
            format!("{} were given {}", who.join(", "), if kept { &ids[0] } else { "different ones" }),
            kept && who == ["a", "b", "c"],
        );
        Ok(())
    }

    /// What PromQL says of each edge over the last seconds of that load.
    pub(super) async fn edges(&self, story: &mut Recorder, load: &Load) -> anyhow::Result<()> {
        let rates = "Each edge has the rate of the load, and no errors";
        let expected = format!("{RATE}/s ± {:.0} %, 0 % errors", 100.0 * TOLERANCE);
        let quantiles = "No edge takes longer than callers waited";
        let longest = load.outcome.latencies.max();
        let (_, bound) = bucket(longest);
        let most =
            format!("p99 up to {bound} ms, where the bucket of the load's longest ({longest:.1?}) ends");
        let prometheus = match self.ask_about(load) {
            Ok(prometheus) => prometheus,
            Err(why) => {
                story.not_checked("edges", rates, expected, why);
                story.not_checked("p99-of-edges", quantiles, most, why);
                return Ok(());
            }
        };
        let (mut rates_fit, mut p99s_fit) = (true, true);
        let (mut rates_seen, mut p99s_seen) = (Vec::new(), Vec::new());
        for (from, to) in EDGES {
            let edge = format!("instance=\"{from}\",envoy_cluster_name=\"{to}\"");
            let all = format!("sum(rate(envoy_cluster_upstream_rq_xx{{{edge}}}[{WINDOW}]))");
            let failed = format!("{edge},envoy_response_code_class=\"5\"");
            let ratio =
                format!("sum(rate(envoy_cluster_upstream_rq_xx{{{failed}}}[{WINDOW}])) / {all} or vector(0)");
            let rate = given(prometheus.value(&all, load.until).await?, &all)?;
            let errors = given(prometheus.value(&ratio, load.until).await?, &ratio)?;
            let p50 = prometheus.value(&quantile(0.5, &edge, WINDOW), load.until).await?;
            let p99 = prometheus.value(&quantile(0.99, &edge, WINDOW), load.until).await?;
            let (p50, shown99) = (shown(p50, "ms"), shown(p99, "ms"));
            story.note(format!(
                "{from:>5} -> {to}: {rate:.1}/s, {:.0} % errors, p50 {p50}, p99 {shown99}",
                100.0 * errors
            ));
            rates_fit &= (rate / f64::from(RATE) - 1.0).abs() <= TOLERANCE && errors <= 0.0;
            p99s_fit &= p99.is_some_and(|p99| p99 > 0.0 && p99 <= bound);
            rates_seen.push(format!("{from}->{to} {rate:.1}/s"));
            p99s_seen.push(format!("{from}->{to} {shown99}"));
        }
        story.claim("edges", rates, expected, rates_seen.join(", "), rates_fit);
        story.claim("p99-of-edges", quantiles, most, p99s_seen.join(", "), p99s_fit);
        Ok(())
    }
}

/// The bucket that a duration falls into, from and to, in milliseconds.
pub(super) fn bucket(duration: Duration) -> (f64, f64) {
    let milliseconds = 1000.0 * duration.as_secs_f64();
    let end = BUCKETS.iter().position(|end| milliseconds <= *end);
    let bound = |at: Option<usize>, none: f64| at.and_then(|at| BUCKETS.get(at)).copied().unwrap_or(none);
    (bound(end.unwrap_or(BUCKETS.len()).checked_sub(1), 0.0), bound(end, f64::INFINITY))
}
