//! Exercise 2: the standby region takes over when the first one dies, and no call fails.

use std::time::Duration;

use mesh_lab::CheckContext;
use shared::poll;

use super::world::{backends, by_region, envoy, ports, require_answers, tally};
use crate::caller::{Call, Load, Tally};

/// Calls while all is well.
const CALLS: usize = 200;

/// Steady load while a region dies, in calls a second.
const RATE: u32 = 200;

/// Calls that are to end after the death: a second and a half's.
const AFTER: usize = 300;

const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let east = backends("east", 2, &bench.life).await?;
    let west = backends("west", 2, &bench.life).await?;
    let (envoy, caller) = envoy(bench, "envoy.yaml", &ports(east.iter().chain(&west))).await?;

    let well = by_region(&tally(&caller, CALLS).await.shares);
    let seen = format!("{} of {CALLS} calls went to east while it was well", well.of("east"));
    bench.require(
        "east gets every call while it is well",
        format!("{CALLS} of {CALLS}"),
        seen,
        well.of("east") == CALLS as u64,
        "Both regions are of the same priority. west is the standby: give it the next one (0 is the first).",
    );

    let load = Load::start(caller, RATE, &bench.life);
    let before = enough(&load, 20).await?;
    for backend in &east {
        backend.kill().await;
    }
    enough(&load, before + AFTER).await?;
    let calls = load.stop().await;
    let took_over = calls.iter().any(|call| call.answered_by("west-1") || call.answered_by("west-2"));
    let overflow = envoy.admin().stats("outlier_detection.ejections_overflow$").await?;
    let advice = if overflow.values().any(|times| *times > 0) {
        "Envoy wanted to take out a dead backend, and was not allowed to (ejections_overflow): outlier detection takes \
         out at most max_ejection_percent of all backends, 10 % unless said."
    } else {
        advice_for(took_over, &calls)
    };
    require_answers(bench, "no call fails when east dies", &calls, advice);
    let last: Tally = calls[calls.len().saturating_sub(50)..].iter().collect();
    let to_west = by_region(&last.shares).of("west");
    bench.require(
        "west takes over",
        "50 of 50",
        format!("{to_west} of the last 50 calls were answered by west"),
        to_west == 50,
        "Who finds out that east is dead? Without health checks or outlier detection Envoy goes on believing in it.",
    );
    Ok(())
}

/// Waits until so many calls have ended, and says how many have.
async fn enough(load: &Load, calls: usize) -> anyhow::Result<usize> {
    let enough = poll::wait_until("calls", Duration::from_millis(10), LIMIT, || {
        let so_far = load.so_far();
        std::future::ready(if so_far >= calls { Ok(so_far) } else { Err(format!("{so_far} of {calls}")) })
    });
    Ok(enough.await?)
}

/// Where to look, by how the failures lie.
fn advice_for(took_over: bool, calls: &[Call]) -> &'static str {
    let failed: Vec<_> = calls.iter().filter(|call| call.answer.is_err()).collect();
    let healed = calls.iter().rev().take(50).all(|call| call.answer.is_ok());
    if !took_over {
        "No call ever reached west. Envoy has to find out that east is dead (health_checks, or outlier_detection), \
         and a second try has to go elsewhere."
    } else if healed && !failed.is_empty() {
        "west took over, but calls failed until Envoy had found out. What was on its way then needs a second try: \
         look at retry_policy, and at retry_priority, so that it does not go to the dead region again. If it is \
         only a few: a cluster allows three retries at once, unless circuit_breakers says more."
    } else {
        "Calls go on failing though west answers some: one of the dead backends is still believed in."
    }
}
