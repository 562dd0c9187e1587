//! Exercise 2: the standby region takes over when the first one dies, and no call fails.

use std::time::Duration;

use mesh_lab::CheckContext;
use shared::poll;

use super::environment::{by_region, port_values, require_no_failures, start_backends, start_envoy, tally};
use crate::caller::{Call, Load, Tally};

/// Calls while all is well.
const CALLS: usize = 200;

/// Steady load while a region dies, in calls a second.
const RATE: u32 = 200;

/// Calls that are to end after the death: a second and a half's.
const CALLS_AFTER_FAILURE: usize = 300;

const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let east = start_backends("east", 2, &context.life).await?;
    let west = start_backends("west", 2, &context.life).await?;
    let (envoy, caller) = start_envoy(context, "envoy.yaml", &port_values(east.iter().chain(&west))).await?;

    let when_healthy = by_region(&tally(&caller, CALLS).await.shares);
    let seen = format!("{} of {CALLS} calls went to east while it was well", when_healthy.of("east"));
    context.require(
        "east gets every call while it is well",
        format!("{CALLS} of {CALLS}"),
        seen,
        when_healthy.of("east") == CALLS as u64,
        "Both regions are of the same priority. west is the standby: give it the next one (0 is the first).",
    );

    let load = Load::start(caller, RATE, &context.life);
    let before = wait_for_calls(&load, 20).await?;
    for backend in &east {
        backend.kill().await;
    }
    wait_for_calls(&load, before + CALLS_AFTER_FAILURE).await?;
    let calls = load.stop().await;
    let failed_over = calls.iter().any(|call| call.answered_by("west-1") || call.answered_by("west-2"));
    let overflow = envoy.admin().stats("outlier_detection.ejections_overflow$").await?;
    let advice = if overflow.values().any(|times| *times > 0) {
        "Envoy wanted to take out a dead backend, and was not allowed to (ejections_overflow): outlier detection takes \
         out at most max_ejection_percent of all backends, 10 % unless said."
    } else {
        advice_for(failed_over, &calls)
    };
    require_no_failures(context, "no call fails when east dies", &calls, advice);
    let last: Tally = calls[calls.len().saturating_sub(50)..].iter().collect();
    let to_west = by_region(&last.shares).of("west");
    context.require(
        "west takes over",
        "50 of 50",
        format!("{to_west} of the last 50 calls were answered by west"),
        to_west == 50,
        "Who finds out that east is dead? Without health checks or outlier detection Envoy goes on believing in it.",
    );
    Ok(())
}

/// Waits until so many calls have ended, and says how many have.
async fn wait_for_calls(load: &Load, calls: usize) -> anyhow::Result<usize> {
    let wait_for_calls = poll::wait_until("calls", Duration::from_millis(10), LIMIT, || {
        let completed = load.completed();
        std::future::ready(if completed >= calls {
            Ok(completed)
        } else {
            Err(format!("{completed} of {calls}"))
        })
    });
    Ok(wait_for_calls.await?)
}

/// Where to look, by how the failures lie.
fn advice_for(failed_over: bool, calls: &[Call]) -> &'static str {
    let failed: Vec<_> = calls.iter().filter(|call| call.result.is_err()).collect();
    let recovered = calls.iter().rev().take(50).all(|call| call.result.is_ok());
    if !failed_over {
        "No call ever reached west. Envoy has to find out that east is dead (health_checks, or outlier_detection), \
         and a second try has to go elsewhere."
    } else if recovered && !failed.is_empty() {
        "west took over, but calls failed until Envoy had found out. What was on its way then needs a second try: \
         look at retry_policy, and at retry_priority, so that it does not go to the dead region again. If it is \
         only a few: a cluster allows three retries at once, unless circuit_breakers says more."
    } else {
        "Calls go on failing though west answers some: one of the dead backends is still believed in."
    }
}
