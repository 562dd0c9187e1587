//! Exercise 1: the share of failing calls of each edge, also of an edge where none fails.

use std::time::SystemTime;

use mesh_lab::CheckContext;

use super::world::{Caller, FILLS, ask, catch_up, listed, recorded, send, value, watch};
use crate::prometheus::{Prometheus, Series};
use crate::service::Fault;

const FILE: &str = "ratio.promql";

/// How far a share may be from the truth: a call more or less in the window is one of thirty.
const TOLERANCE: f64 = 0.05;

/// An edge of the caller.
struct Edge {
    name: String,
    /// Calls a second.
    rate: u32,
    /// Of 100 calls, how many fail.
    percent: u8,
}

impl Edge {
    /// The share that fails.
    fn fails(&self) -> f64 {
        f64::from(self.percent) / 100.0
    }
}

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let expression = bench.render(FILE, &[])?;
    let names = bench.rng.names(4);
    let mut throw = |range| u8::try_from(bench.rng.number(range)).unwrap_or(0);
    let percents = [throw(30..=45), throw(15..=22), 0];
    let edges: Vec<_> = names[1..]
        .iter()
        .zip(percents)
        .zip([40, 60, 30])
        .map(|((name, percent), rate)| Edge { name: name.clone(), rate, percent })
        .collect();
    let (prometheus, until) =
        recorded(bench, &names, async || record(bench, &expression, &names[0], &edges).await).await?;
    let answer = ask(FILE, &expression, &prometheus, until).await?;
    let (failing, well) = edges.split_at(2);
    for edge in failing {
        judge(bench, edge, &answer);
    }
    is_zero(bench, &well[0].name, &answer);
    let more = answer.len().saturating_sub(edges.len());
    bench.require(
        "there is nothing else",
        "a series for each edge",
        format!("there are {} series for {} edges", answer.len(), edges.len()),
        more == 0,
        "Which label is there that an edge has several of? sum by (…) keeps only what it names.",
    );
    Ok(())
}

/// Runs the caller, first without errors and then with them.
async fn record(
    bench: &CheckContext,
    expression: &str,
    caller: &str,
    edges: &[Edge],
) -> anyhow::Result<(Prometheus, SystemTime)> {
    let to: Vec<_> = edges.iter().map(|edge| edge.name.as_str()).collect();
    let caller = Caller::start(bench, caller, &to).await?;
    let prometheus = watch(&bench.session, &[&caller], "").await?;
    // Asked at once: who made a mistake in writing need not wait for the load.
    ask(FILE, expression, prometheus.api(), SystemTime::now()).await?;
    let plans = |times: u32| {
        edges.iter().map(|edge| caller.calls(&edge.name, times * edge.rate)).collect::<Result<_, _>>()
    };
    // A past without errors, which a counter remembers for ever, also if nobody watched.
    let (_, seen) = tokio::join!(send(plans(3)?, FILLS / 3), catch_up(&prometheus, 1));
    seen?;
    for edge in edges {
        let error_percent = edge.percent;
        caller.misbehaves(&edge.name, Fault { error_percent, ..Fault::default() });
    }
    let until = send(plans(1)?, FILLS).await;
    catch_up(&prometheus, 1).await?;
    Ok((prometheus, until))
}

fn of<'a>(answer: &'a [Series], edge: &str) -> Vec<&'a Series> {
    answer
        .iter()
        .filter(|one| one.labels.get("envoy_cluster_name").is_some_and(|name| name == edge))
        .collect()
}

fn judge(bench: &mut CheckContext, edge: &Edge, answer: &[Series]) {
    let what = format!("the edge to {} has its share of failing calls", edge.name);
    let wanted = format!("{:.2} ± {TOLERANCE}", edge.fails());
    let found = of(answer, &edge.name);
    let [series] = found[..] else {
        let seen = match answer {
            [] => "it gives nothing".to_owned(),
            _ => format!(
                "{} of its series have envoy_cluster_name=\"{}\": {}",
                found.len(),
                edge.name,
                listed(answer)
            ),
        };
        let advice = if answer.is_empty() {
            "Both sides of a division need the same labels: ask for each side by itself."
        } else if found.is_empty() {
            "All edges were added up to one. sum by (envoy_cluster_name) keeps them apart."
        } else {
            "sum by (envoy_cluster_name) adds up what belongs to one edge."
        };
        bench.require(what, format!("one series, {wanted}"), seen, false, advice);
        return;
    };
    let seen = value(series);
    let met = (seen - edge.fails()).abs() <= TOLERANCE;
    bench.require(
        what,
        wanted,
        format!("it says {seen:.3} for the edge to {}", edge.name),
        met,
        advice_for(edge, seen),
    );
}

/// Where to look, by what the number is instead.
fn advice_for(edge: &Edge, seen: f64) -> &'static str {
    let near = |other: f64| (seen / other - 1.0).abs() < 0.2;
    if near(edge.fails() * f64::from(edge.rate)) {
        "Those are failing calls a second. A share is that divided by all calls a second."
    } else if near(100.0 * edge.fails()) {
        "That is in per cent; the task asks for a number from 0 to 1."
    } else if near(edge.fails() / (1.0 - edge.fails())) {
        "That is failing calls by successful ones. A share is a part of all calls, failing ones included."
    } else if seen < edge.fails() {
        "It is too small: counters remember everything since the start, when all was well. rate(…[2s]) looks at the last \
         two seconds."
    } else {
        "Ask for both sides of the division by themselves: which of the two is not what you think?"
    }
}

fn is_zero(bench: &mut CheckContext, edge: &str, answer: &[Series]) {
    let found = of(answer, edge);
    let seen = match found[..] {
        [] => format!("there is no series for the edge to {edge}, on which no call fails"),
        [one] => format!("it says {} for the edge to {edge}", value(one)),
        _ => format!("there are {} series for the edge to {edge}", found.len()),
    };
    let met = matches!(found[..], [one] if value(one).abs() < 1e-9);
    let advice = "Envoy makes a counter with the first event: before the first 5xx there is no series of it, and a panel says \
                  \"no data\" where it should say 0. `A or B` takes from B what A has not got.";
    bench.require(format!("the edge to {edge}, which is well, has 0"), "0", seen, met, advice);
}
