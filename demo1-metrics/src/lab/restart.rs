//! Exercise 5: calls a second of two copies together, one of which is restarted meanwhile.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};

use super::world::{Caller, ask, catch_up, listed, recorded, send, value, watch};
use crate::prometheus::{Api, Prometheus};

const FILE: &str = "rate.promql";

/// The window that the task asks about; the restart is in the middle of it.
const WINDOW: &str = "4s";

/// Calls a second of the copy that stays, and of the one that is restarted.
const STAYS: u32 = 60;
const LEAVES: u32 = 20;

/// How long there are calls before the restart and after it. Together they fill the window, whatever the restart takes.
const BEFORE: Duration = Duration::from_millis(2200);
const AFTER: Duration = Duration::from_millis(2000);

/// How far two answers out of the same counters may be from each other.
const TOLERANCE: f64 = 0.05;

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let names = bench.rng.names(2);
    let expression = bench.render(FILE, &[("CALLED", names[1].clone())])?;
    // What it has counted before: the more, the deeper the fall.
    let past = bench.rng.number(200..=250);
    let (prometheus, until) =
        recorded(bench, &names, async || record(bench, &expression, &names, past).await).await?;
    let answer = ask(FILE, &expression, &prometheus, until).await?;
    let what = "there is one number for both copies";
    let [one] = &answer[..] else {
        let seen = match answer.len() {
            0 => "it gives nothing".to_owned(),
            many => format!("it gives {many} series: {}", listed(&answer)),
        };
        let advice = if answer.is_empty() {
            "rate takes a range of samples, and a sum has none unless asked for as a subquery, (…)[4s:200ms]. Is that the \
             order that you want?"
        } else {
            "Each copy counts for itself. What adds up their rates?"
        };
        return Err(Requirement::unmet(what, "one series", seen, advice).into());
    };
    bench.require(what, "one series", "it gives one series", true, "");
    judge(bench, &prometheus, &names[1], value(one), until).await
}

/// Runs two copies of a caller, and restarts one of them.
async fn record(
    bench: &CheckContext,
    expression: &str,
    names: &[String],
    past: u32,
) -> anyhow::Result<(Prometheus, SystemTime)> {
    let [caller, to] = names else { anyhow::bail!("two names") };
    let stays = Caller::start(bench, &format!("{caller}-1"), &[to]).await?;
    let leaves = Caller::start(bench, &format!("{caller}-2"), &[to]).await?;
    let prometheus = watch(&bench.session, &[&stays, &leaves], "").await?;
    ask(FILE, expression, prometheus.api(), SystemTime::now()).await?;
    let before = send(vec![leaves.calls(to, past)?, stays.calls(to, past)?], BEFORE);
    let (_, seen) = tokio::join!(before, catch_up(&prometheus, 2));
    seen?;
    let both = |leaves: &Caller| anyhow::Ok(vec![stays.calls(to, STAYS)?, leaves.calls(to, LEAVES)?]);
    send(both(&leaves)?, BEFORE).await;
    let leaves = leaves.restarted(bench).await?;
    let until = send(both(&leaves)?, AFTER).await;
    catch_up(&prometheus, 2).await?;
    Ok((prometheus, until))
}

async fn judge(
    bench: &mut CheckContext,
    prometheus: &Api,
    to: &str,
    seen: f64,
    until: SystemTime,
) -> anyhow::Result<()> {
    let counter = format!("envoy_cluster_upstream_rq_total{{envoy_cluster_name=\"{to}\"}}");
    let right = format!("sum(rate({counter}[{WINDOW}]))");
    let right = prometheus.value(&right, until).await?.context("both copies have calls")?;
    let most = f64::from(STAYS + LEAVES);
    let advice = if seen > 1.5 * most {
        "So many calls nobody made. When a copy is restarted the sum of the counters falls, and rate takes a fall for a restart \
         of the whole, after which everything was counted anew. rate first, of each copy by itself; then the sum."
    } else if seen < 0.0 {
        "Less than nothing: a counter that was restarted is smaller than before, and a difference does not know why. rate does."
    } else {
        "Is it a rate, over four seconds, of both copies, and of this service alone?"
    };
    bench.require(
        format!("it is how many calls a second {to} got"),
        format!(
            "{right:.0} ± {:.0} % ({most} were sent a second, and fewer while one copy was away)",
            100.0 * TOLERANCE
        ),
        format!("it says {seen:.0} calls a second"),
        (seen / right - 1.0).abs() <= TOLERANCE,
        advice,
    );
    Ok(())
}
