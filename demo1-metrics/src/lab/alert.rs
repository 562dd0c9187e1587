//! Exercise 4: an alert that fires when an edge fails, and neither on load nor on a few errors among many calls.
//!
//! ```text
//!   much load, no errors ──> much load, few errors ──> little load, many errors ──(only if silent)──> every edge fails
//!         silence                  silence                 it fires, for this edge
//! ```

use std::time::{Duration, SystemTime};

use mesh_lab::{CheckContext, Requirement};
use shared::poll;

use super::world::{Caller, FILLS, catch_up, listed, send, watch};
use crate::prometheus::{Prometheus, PrometheusError, Series};
use crate::service::Fault;

const FILE: &str = "rules.yaml";

/// Calls a second of the edge while there is much to do, and while there is little.
const MUCH: u32 = 150;
const LITTLE: u32 = 10;

/// Calls a second of the edge that is well.
const WELL: u32 = 60;

/// Per cent of the calls that fail: few, which is below the task's ten, and many.
const FEW: u8 = 3;
const MANY: u8 = 40;

/// How long an alert may take: the window has to fill with failing calls, and `for` may be a second.
const LIMIT: Duration = Duration::from_millis(5500);
const LOOK: Duration = Duration::from_millis(50);

/// What has fired since the beginning.
const FIRED: &str = r#"max without (alertstate) (max_over_time(ALERTS{alertstate="firing"}[2m]))"#;
const PENDING: &str = r#"max without (alertstate) (max_over_time(ALERTS{alertstate="pending"}[2m]))"#;

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let rules = bench.render(FILE, &[])?;
    let names = bench.rng.names(3);
    let (caller, edge, well) = (&names[0], &names[1], &names[2]);
    let caller = Caller::start(bench, caller, &[edge, well]).await?;
    let prometheus = match watch(&bench.life, &[&caller], &rules).await {
        Ok(prometheus) => prometheus,
        Err(error) => return Err(refusal(error)),
    };
    let fails = |service: &str, error_percent: u8| {
        caller.misbehaves(service, Fault { error_percent, ..Fault::default() });
    };
    let busy = || anyhow::Ok(vec![caller.calls(edge, MUCH)?, caller.calls(well, WELL)?]);

    catch_up(&prometheus, 1).await?;
    send(busy()?, FILLS).await;
    catch_up(&prometheus, 1).await?;
    let load = format!("it is silent under load: {MUCH} calls a second, none of which fails");
    let advice = "Load is no fault, and is there to be carried. What does a caller notice?";
    if !is_silent(bench, &load, &prometheus, advice).await? {
        return Ok(());
    }

    fails(edge, FEW);
    send(busy()?, FILLS).await;
    catch_up(&prometheus, 1).await?;
    let few = format!("it is silent when {FEW} % of {MUCH} calls a second fail");
    let advice = "Some errors there always are, and twice the load has twice as many. Ask which share of the calls fails.";
    if !is_silent(bench, &few, &prometheus, advice).await? {
        return Ok(());
    }

    fails(edge, MANY);
    let little = || anyhow::Ok(vec![caller.calls(edge, LITTLE)?, caller.calls(well, WELL)?]);
    let what =
        format!("it fires when {MANY} % of {LITTLE} calls a second from {} to {edge} fail", caller.name);
    let wanted = format!("an alert with envoy_cluster_name=\"{edge}\" that fires within {LIMIT:?}");
    let fired = fires(&prometheus, little()?).await?;
    if fired.is_empty() {
        let pending = prometheus.api().instant(PENDING, SystemTime::now()).await?;
        let advice = if pending.is_empty() {
            fails(well, MANY);
            if fires(&prometheus, little()?).await?.is_empty() {
                "It is silent even if all edges fail. Ask for its expression without the comparison: is it empty? Both sides of \
                 a division need the same labels, or a `sum by (…)` each."
            } else {
                "It fires as soon as all edges fail: the calls of those that are well hide the one that is not. A share of each \
                 edge takes sum by (instance, envoy_cluster_name) on both sides."
            }
        } else {
            "It was pending, and did not fire: `for` is how long it has to hold before anybody is told."
        };
        bench.require(what, wanted, format!("nothing fired within {LIMIT:?}"), false, advice);
        return Ok(());
    }
    let about = fired.iter().filter(|one| one.labels.get("envoy_cluster_name") == Some(edge)).count();
    let seen = format!("{} fired", listed(&fired));
    let advice = "Whoever is woken wants to know where. Labels that the expression keeps are the alert's: envoy_cluster_name.";
    bench.require(what, wanted, &seen, about > 0, advice);
    bench.require(
        format!("it says nothing about {well}, which is well"),
        format!("alerts about {edge} alone"),
        seen,
        about == fired.len(),
        "An alert for an edge that is well sends people to the wrong place.",
    );
    Ok(())
}

async fn is_silent(
    bench: &mut CheckContext,
    what: &str,
    prometheus: &Prometheus,
    advice: &str,
) -> anyhow::Result<bool> {
    let fired = prometheus.api().instant(FIRED, SystemTime::now()).await?;
    let seen =
        if fired.is_empty() { "nothing fired".to_owned() } else { format!("{} fired", listed(&fired)) };
    bench.require(what, "silence", seen, fired.is_empty(), advice);
    Ok(fired.is_empty())
}

/// What fires while such calls are made; empty if nothing does in time.
async fn fires(prometheus: &Prometheus, calls: Vec<crate::load::Plan>) -> anyhow::Result<Vec<Series>> {
    let looking = poll::wait_until("an alert", LOOK, LIMIT, || async {
        let fired =
            prometheus.api().instant(FIRED, SystemTime::now()).await.map_err(|error| error.to_string())?;
        if fired.is_empty() { Err("none".to_owned()) } else { Ok(fired) }
    });
    tokio::select! {
        fired = looking => Ok(fired.unwrap_or_default()),
        _ = send(calls, 2 * LIMIT) => anyhow::bail!("the load ended before its time"),
    }
}

/// Rules that Prometheus does not take are the student's; anything else is not.
fn refusal(error: anyhow::Error) -> anyhow::Error {
    let Some(PrometheusError::NotReady { log, .. }) = error.downcast_ref() else { return error };
    let Some(line) = log.lines().rev().find(|line| line.contains("alerts.yaml")) else { return error };
    let (_, said) = line.rsplit_once("alerts.yaml").unwrap_or_default();
    let said =
        said.trim_matches(|letter: char| "\": \\".contains(letter)).replace("\\\"", "\"").replace("\\n", " ");
    let seen = format!("Prometheus refuses {FILE}: {said}");
    let advice = "Two numbers in what it says are a line and a column. `promtool check rules rules.yaml` says the same.";
    Requirement::unmet(format!("Prometheus accepts {FILE}"), "rules that Prometheus runs with", seen, advice)
        .into()
}
