//! Exercise 2: the p99 of an edge that two copies of a caller share, one of them with a slow way.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};

use super::world::{Caller, FILLS, WINDOW, ask, catch_up, listed, recorded, send, value, watch};
use crate::prometheus::{Api, Prometheus};
use crate::service::Fault;

const FILE: &str = "p99.promql";

/// How far two answers out of the same buckets may be from each other.
const TOLERANCE: f64 = 0.02;

/// How slow the other edge is, and how slow the edge was before, in milliseconds.
const ELSEWHERE: u16 = 600;
const BEFORE: u16 = 1200;

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let names = bench.rng.names(3);
    let expression = bench.render(FILE, &[("CALLER", names[0].clone()), ("CALLED", names[1].clone())])?;
    let (caller, to) = (names[0].as_str(), names[1].as_str());
    let delay = u16::try_from(bench.rng.number(260..=340))?;
    let (prometheus, until) =
        recorded(bench, &names, async || record(bench, &expression, &names, delay).await).await?;
    let answer = ask(FILE, &expression, &prometheus, until).await?;
    let what = "there is one number for the edge";
    if answer.len() != 1 {
        let seen = match answer.len() {
            0 => "it gives nothing".to_owned(),
            many => format!("it gives {many} series: {}", listed(&answer)),
        };
        let advice = if answer.is_empty() {
            "histogram_quantile needs the label `le`, the upper end of a bucket: sum by (le) keeps it. And does a series have \
             the labels that you ask for?"
        } else {
            "Each copy of the caller, and each edge of it, has buckets of its own. Choose the edge by its labels, and add up \
             the buckets of both copies: sum by (le)."
        };
        return Err(Requirement::unmet(what, "one series", seen, advice).into());
    }
    bench.require(what, "one series", "it gives one series", true, "");
    judge(bench, &prometheus, (caller, to), value(&answer[0]), until).await
}

/// Runs both copies of the caller: the edge is slow for a moment, then for one of them.
async fn record(
    bench: &CheckContext,
    expression: &str,
    names: &[String],
    delay: u16,
) -> anyhow::Result<(Prometheus, SystemTime)> {
    let [caller, to, other] = names else { anyhow::bail!("three names") };
    let quick = Caller::start(bench, &format!("{caller}-1"), &[to, other]).await?;
    let slow = Caller::start(bench, &format!("{caller}-2"), &[to, other]).await?;
    let prometheus = watch(&bench.session, &[&quick, &slow], "").await?;
    ask(FILE, expression, prometheus.api(), SystemTime::now()).await?;
    let late = |delay_ms: u16| Fault { delay_ms, ..Fault::default() };
    quick.misbehaves(to, late(BEFORE));
    let before = send(vec![quick.calls(to, 40)?], Duration::from_millis(400));
    let (_, seen) = tokio::join!(before, catch_up(&prometheus, 2));
    seen?;
    quick.misbehaves(to, Fault::default());
    slow.misbehaves(to, late(delay));
    quick.misbehaves(other, late(ELSEWHERE));
    let loads = vec![quick.calls(to, 40)?, slow.calls(to, 20)?, quick.calls(other, 10)?];
    let until = send(loads, FILLS).await;
    catch_up(&prometheus, 2).await?;
    Ok((prometheus, until))
}

async fn judge(
    bench: &mut CheckContext,
    prometheus: &Api,
    (caller, to): (&str, &str),
    seen: f64,
    until: SystemTime,
) -> anyhow::Result<()> {
    let bucket = "envoy_cluster_upstream_rq_time_bucket";
    let edge = format!("instance=~\"{caller}-.\",envoy_cluster_name=\"{to}\"");
    let all = format!("histogram_quantile(0.99, sum by (le) (rate({bucket}{{{edge}}}[{WINDOW}])))");
    let right = prometheus.value(&all, until).await?.context("the edge has calls")?;
    let near = |other: f64| (seen / other - 1.0).abs() <= TOLERANCE;
    let mut advice = "Is it the last two seconds, both copies of the caller, this edge alone, and 0.99?";
    let misunderstandings = [
        (
            format!(
                "avg(histogram_quantile(0.99, sum by (le, instance) (rate({bucket}{{{edge}}}[{WINDOW}]))))"
            ),
            "That is the mean of two p99s, a number that no call took. Add up the buckets of both copies first, and take the \
             quantile last.",
        ),
        (
            format!("histogram_quantile(0.99, sum by (le) ({bucket}{{{edge}}}))"),
            "Buckets are counters, and these remember everything since the start. rate(…[2s]) looks at the last two seconds.",
        ),
        (
            format!(
                "histogram_quantile(0.99, sum by (le) (rate({bucket}{{instance=~\"{caller}-.\"}}[{WINDOW}])))"
            ),
            "Calls of another edge are in it, which is slower. An edge is who calls, instance, and who is called, \
             envoy_cluster_name.",
        ),
        (
            format!(
                "histogram_quantile(0.99, sum by (le) (rate({bucket}{{instance=\"{caller}-1\",envoy_cluster_name=\"{to}\"}}[{WINDOW}])))"
            ),
            "That is one copy of the caller alone, and the other one is the slow one.",
        ),
        (
            format!("{all} / 1000"),
            "That is in seconds. Envoy's buckets are in milliseconds, and so is the answer.",
        ),
    ];
    for (query, why) in misunderstandings {
        if let Some(other) = prometheus.value(&query, until).await?
            && near(other)
        {
            advice = why;
            break;
        }
    }
    bench.require(
        format!("it is the p99 of the calls from {caller} to {to}"),
        format!(
            "{right:.1} ms ± {:.0} %, which is what the buckets of all its calls give",
            100.0 * TOLERANCE
        ),
        format!("it says {seen:.1} ms"),
        near(right),
        advice,
    );
    Ok(())
}
