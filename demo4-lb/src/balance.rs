//! The decision that makes load balancing global: how much each region shall get, given what all
//! proxies together send.
//!
//! Pure: demand and capacities in, weights out. Who measures and who publishes is not known here.

/// A region as the decision sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its share if capacity were no matter, relative to the others: nearness, price.
    pub preference: f64,
    /// Requests a second that it may be given.
    pub capacity: f64,
}

/// Weights are parts of this.
pub const TOTAL_WEIGHT: u32 = 1000;

/// How to split `demand` (requests a second) over the sites, in parts of [`TOTAL_WEIGHT`].
///
/// Each site gets its preferred share; what is more than its capacity goes to the others, again by
/// preference, until everything has a place. If all together cannot carry the demand, each is loaded in
/// proportion to its capacity: overload is shared, and nobody is drowned for the others. While there is no demand
/// (yet), preferences alone decide. The parts add up to [`TOTAL_WEIGHT`] unless there is no site.
///
/// ```
/// use demo4_lb::balance::{Site, weights};
/// let east = Site { preference: 80.0, capacity: 120.0 };
/// let west = Site { preference: 20.0, capacity: 500.0 };
/// assert_eq!(weights(100.0, &[east.clone(), west.clone()]), [800, 200]);
/// assert_eq!(weights(300.0, &[east, west]), [400, 600]);
/// ```
pub fn weights(demand: f64, sites: &[Site]) -> Vec<u32> {
    let capacity: f64 = sites.iter().map(|site| site.capacity).sum();
    let collect = |measure: fn(&Site) -> f64| sites.iter().map(measure).collect::<Vec<_>>();
    // The first that says something: who shall get calls must be said even if nobody calls, since no client accepts
    // a route whose parts are all zero.
    let candidates = [
        if demand >= capacity { collect(|site| site.capacity) } else { fill_by_preference(demand, sites) },
        collect(|site| site.preference),
        collect(|_| 1.0),
    ];
    let is_non_zero = |shares: &&Vec<f64>| shares.iter().sum::<f64>() > 0.0;
    candidates.iter().find(is_non_zero).map_or_else(Vec::new, |shares| round_to_total(shares))
}

/// Returns requests per second for each site, none over its capacity. `demand` is below the sum of capacities.
fn fill_by_preference(demand: f64, sites: &[Site]) -> Vec<f64> {
    let mut shares = vec![0.0; sites.len()];
    let mut full = vec![false; sites.len()];
    // Each round fills at least one site for good, or places all that is left.
    for _ in sites {
        let assigned: f64 =
            sites.iter().zip(&full).filter(|(_, full)| **full).map(|(site, _)| site.capacity).sum();
        let open = || sites.iter().zip(&full).filter(|(_, full)| !**full).map(|(site, _)| site);
        let preferences: f64 = open().map(|site| site.preference).sum();
        let spare_capacity: f64 = open().map(|site| site.capacity).sum();
        let remaining = (demand - assigned).max(0.0);
        let mut overflow = false;
        for (index, site) in sites.iter().enumerate() {
            if full[index] {
                shares[index] = site.capacity;
                continue;
            }
            // Sites that nobody prefers are the last resort, by their room.
            let part = if preferences > 0.0 {
                site.preference / preferences
            } else {
                site.capacity / spare_capacity.max(1e-9)
            };
            shares[index] = remaining * part;
            if shares[index] > site.capacity {
                overflow = true;
            }
        }
        if !overflow {
            break;
        }
        for (index, site) in sites.iter().enumerate() {
            full[index] |= shares[index] >= site.capacity;
        }
    }
    shares
}

/// Rounds shares with a sum above zero to integers that add up to [`TOTAL_WEIGHT`], by the largest remainders.
fn round_to_total(shares: &[f64]) -> Vec<u32> {
    let sum: f64 = shares.iter().sum();
    let exact: Vec<f64> = shares.iter().map(|share| share / sum * f64::from(TOTAL_WEIGHT)).collect();
    let mut parts: Vec<u32> = exact.iter().map(|part| part.floor() as u32).collect();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by(|one, other| exact[*other].fract().total_cmp(&exact[*one].fract()));
    let missing = TOTAL_WEIGHT.saturating_sub(parts.iter().sum()) as usize;
    for index in by_remainder.into_iter().cycle().take(missing.min(shares.len())) {
        parts[index] += 1;
    }
    parts
}
