//! Exercise 1: three regions of unequal size are to get 70, 20 and 10 % of the calls.

use mesh_lab::CheckContext;
use shared::stats::Shares;

use super::environment::{by_region, port_values, require_no_failures, start_backends, start_envoy};
use crate::caller::Tally;

/// The regions: share in per cent, and backends. Shares and sizes differ, so that one is not taken for the other.
const REGIONS: [(&str, u32, usize); 3] = [("east", 70, 1), ("west", 20, 3), ("south", 10, 1)];

/// Enough that 70 % are told from 62 %.
const CALLS: usize = 800;

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for (region, _, size) in REGIONS {
        all.extend(start_backends(region, size, &context.life).await?);
    }
    let (_envoy, caller) = start_envoy(context, "envoy.yaml", &port_values(&all)).await?;
    let calls = caller.calls(CALLS, 8).await;
    let advice = "Leave listener, route and addresses as they were given; only the split is to change.";
    require_no_failures(context, "every call is answered", &calls, advice);
    let seen = by_region(&calls.iter().collect::<Tally>().shares);
    let advice = advice_for(&seen);
    for (region, percent, _) in REGIONS {
        let share = f64::from(percent) / 100.0;
        context.require_share(region, share, (seen.of(region), CALLS as u64), advice);
    }
    Ok(())
}

/// Where to look, by what the split looks like.
fn advice_for(seen: &Shares) -> &'static str {
    let sizes = REGIONS.map(|(region, _, size)| (region, size as f64));
    let regions = seen.iter().count();
    if seen.fit(sizes).holds() {
        "That is each region's part of the backends: Envoy counted these. It goes by the localities' weights only if \
         the cluster has common_lb_config.locality_weighted_lb_config."
    } else if regions == 1 {
        "One region got everything: priorities are an order, not a split. The next priority is for when this one is \
         short of healthy backends."
    } else if regions < REGIONS.len() {
        "A region got nothing: once localities are weighed, one without load_balancing_weight weighs nothing."
    } else {
        "Look at load_balancing_weight of each locality: Envoy reads it relative to the other localities of the same \
         priority. One at an endpoint splits what its own locality gets."
    }
}
