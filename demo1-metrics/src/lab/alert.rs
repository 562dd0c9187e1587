//! Exercise 4: an alert that fires when an edge fails, and neither on load nor on a few errors among many calls.
//!
//! ```text
//!   much load, no errors ──> much load, few errors ──> little load, many errors ──(only if silent)──> every edge fails
//!         silence                  silence                 it fires, for this edge
//! ```

use std::time::{Duration, SystemTime};

use mesh_lab::{CheckContext, Requirement};
use shared::poll;

use super::mesh::{Caller, FILL_WINDOW, list_series, send, start_prometheus, wait_for_scrapes};
use crate::prometheus::{Prometheus, PrometheusError, Series};
use crate::service::Fault;

const FILE: &str = "rules.yaml";

/// Calls a second of the edge while there is much to do, and while there is little.
const HIGH_RATE: u32 = 150;
const LOW_RATE: u32 = 10;

/// Calls a second of the edge that is well.
const HEALTHY_RATE: u32 = 60;

/// Per cent of the calls that fail: few, which is below the task's ten, and many.
const FEW_ERRORS_PERCENT: u8 = 3;
const MANY_ERRORS_PERCENT: u8 = 40;

/// How long an alert may take: the window has to fill with failing calls, and `for` may be a second.
const ALERT_TIMEOUT: Duration = Duration::from_millis(5500);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What has fired since the beginning.
const FIRED: &str = r#"max without (alertstate) (max_over_time(ALERTS{alertstate="firing"}[2m]))"#;
const PENDING: &str = r#"max without (alertstate) (max_over_time(ALERTS{alertstate="pending"}[2m]))"#;

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let rules = context.render(FILE, &[])?;
    let names = context.rng.names(3);
    let (caller, edge, healthy) = (&names[0], &names[1], &names[2]);
    let caller = Caller::start(context, caller, &[edge, healthy]).await?;
    let prometheus = match start_prometheus(&context.life, &[&caller], &rules).await {
        Ok(prometheus) => prometheus,
        Err(error) => return Err(rules_error(error)),
    };
    let fails = |service: &str, error_percent: u8| {
        caller.inject_fault(service, Fault { error_percent, ..Fault::default() });
    };
    let high_load = || anyhow::Ok(vec![caller.calls(edge, HIGH_RATE)?, caller.calls(healthy, HEALTHY_RATE)?]);

    wait_for_scrapes(&prometheus, 1).await?;
    send(high_load()?, FILL_WINDOW).await;
    wait_for_scrapes(&prometheus, 1).await?;
    let load = format!("it is silent under load: {HIGH_RATE} calls a second, none of which fails");
    let advice = "Load is no fault, and is there to be carried. What does a caller notice?";
    if !check_no_alert(context, &load, &prometheus, advice).await? {
        return Ok(());
    }

    fails(edge, FEW_ERRORS_PERCENT);
    send(high_load()?, FILL_WINDOW).await;
    wait_for_scrapes(&prometheus, 1).await?;
    let few = format!("it is silent when {FEW_ERRORS_PERCENT} % of {HIGH_RATE} calls a second fail");
    let advice = "Some errors there always are, and twice the load has twice as many. Ask which share of the calls fails.";
    if !check_no_alert(context, &few, &prometheus, advice).await? {
        return Ok(());
    }

    fails(edge, MANY_ERRORS_PERCENT);
    let low_load = || anyhow::Ok(vec![caller.calls(edge, LOW_RATE)?, caller.calls(healthy, HEALTHY_RATE)?]);
    let what = format!(
        "it fires when {MANY_ERRORS_PERCENT} % of {LOW_RATE} calls a second from {} to {edge} fail",
        caller.name
    );
    let wanted = format!("an alert with envoy_cluster_name=\"{edge}\" that fires within {ALERT_TIMEOUT:?}");
    let fired = wait_for_alert(&prometheus, low_load()?).await?;
    if fired.is_empty() {
        let pending = prometheus.api().instant(PENDING, SystemTime::now()).await?;
        let advice = if pending.is_empty() {
            fails(healthy, MANY_ERRORS_PERCENT);
            if wait_for_alert(&prometheus, low_load()?).await?.is_empty() {
                "It is silent even if all edges fail. Ask for its expression without the comparison: is it empty? Both sides of \
                 a division need the same labels, or a `sum by (…)` each."
            } else {
                "It fires as soon as all edges fail: the calls of those that are well hide the one that is not. A share of each \
                 edge takes sum by (instance, envoy_cluster_name) on both sides."
            }
        } else {
            "It was pending, and did not fire: `for` is how long it has to hold before anybody is told."
        };
        context.require(what, wanted, format!("nothing fired within {ALERT_TIMEOUT:?}"), false, advice);
        return Ok(());
    }
    let about = fired.iter().filter(|one| one.labels.get("envoy_cluster_name") == Some(edge)).count();
    let seen = format!("{} fired", list_series(&fired));
    let advice = "Whoever is woken wants to know where. Labels that the expression keeps are the alert's: envoy_cluster_name.";
    context.require(what, wanted, &seen, about > 0, advice);
    context.require(
        format!("it says nothing about {healthy}, which is well"),
        format!("alerts about {edge} alone"),
        seen,
        about == fired.len(),
        "An alert for an edge that is well sends people to the wrong place.",
    );
    Ok(())
}

async fn check_no_alert(
    context: &mut CheckContext,
    what: &str,
    prometheus: &Prometheus,
    advice: &str,
) -> anyhow::Result<bool> {
    let fired = prometheus.api().instant(FIRED, SystemTime::now()).await?;
    let seen =
        if fired.is_empty() { "nothing fired".to_owned() } else { format!("{} fired", list_series(&fired)) };
    context.require(what, "silence", seen, fired.is_empty(), advice);
    Ok(fired.is_empty())
}

/// What fires while such calls are made; empty if nothing does in time.
async fn wait_for_alert(
    prometheus: &Prometheus,
    calls: Vec<crate::load::Plan>,
) -> anyhow::Result<Vec<Series>> {
    let looking = poll::wait_until("an alert", POLL_INTERVAL, ALERT_TIMEOUT, || async {
        let fired =
            prometheus.api().instant(FIRED, SystemTime::now()).await.map_err(|error| error.to_string())?;
        if fired.is_empty() { Err("none".to_owned()) } else { Ok(fired) }
    });
    tokio::select! {
        fired = looking => Ok(fired.unwrap_or_default()),
        _ = send(calls, 2 * ALERT_TIMEOUT) => anyhow::bail!("the load ended before its time"),
    }
}

/// Rules that Prometheus does not take are the student's; anything else is not.
fn rules_error(error: anyhow::Error) -> anyhow::Error {
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
