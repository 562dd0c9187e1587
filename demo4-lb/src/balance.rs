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
pub const WHOLE: u32 = 1000;

/// How to split `demand` (requests a second) over the sites, in parts of [`WHOLE`].
///
/// Each site gets its preferred share; what is more than its capacity goes to the others, again by
/// preference, until everything has a place. If all together cannot carry the demand, each is loaded in
/// proportion to its capacity: overload is shared, and nobody is drowned for the others. While there is no demand
/// (yet), preferences alone decide. The parts add up to [`WHOLE`] unless there is no site.
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
    let by = |measure: fn(&Site) -> f64| sites.iter().map(measure).collect::<Vec<_>>();
    // The first that says something: who shall get calls must be said even if nobody calls, since no client accepts
    // a route whose parts are all zero.
    let candidates = [
        if demand >= capacity { by(|site| site.capacity) } else { filled(demand, sites) },
        by(|site| site.preference),
        by(|_| 1.0),
    ];
    let says_something = |shares: &&Vec<f64>| shares.iter().sum::<f64>() > 0.0;
    candidates.iter().find(says_something).map_or_else(Vec::new, |shares| in_parts(shares))
}

/// Requests a second for each site; nobody over its capacity. `demand` is below the sum of capacities.
fn filled(demand: f64, sites: &[Site]) -> Vec<f64> {
    let mut shares = vec![0.0; sites.len()];
    let mut full = vec![false; sites.len()];
    // Each round fills at least one site for good, or places all that is left.
    for _ in sites {
        let placed: f64 =
            sites.iter().zip(&full).filter(|(_, full)| **full).map(|(site, _)| site.capacity).sum();
        let open = || sites.iter().zip(&full).filter(|(_, full)| !**full).map(|(site, _)| site);
        let preferences: f64 = open().map(|site| site.preference).sum();
        let rooms: f64 = open().map(|site| site.capacity).sum();
        let left = (demand - placed).max(0.0);
        let mut overflow = false;
        for (at, site) in sites.iter().enumerate() {
            if full[at] {
                shares[at] = site.capacity;
                continue;
            }
            // Sites that nobody prefers are the last resort, by their room.
            let part = if preferences > 0.0 {
                site.preference / preferences
            } else {
                site.capacity / rooms.max(1e-9)
            };
            shares[at] = left * part;
            if shares[at] > site.capacity {
                overflow = true;
            }
        }
        if !overflow {
            break;
        }
        for (at, site) in sites.iter().enumerate() {
            full[at] |= shares[at] >= site.capacity;
        }
    }
    shares
}

/// The shares, whose sum is above zero, as whole parts that add up to [`WHOLE`]: rounded down, and the rest to the largest remainders.
fn in_parts(shares: &[f64]) -> Vec<u32> {
    let sum: f64 = shares.iter().sum();
    let exact: Vec<f64> = shares.iter().map(|share| share / sum * f64::from(WHOLE)).collect();
    let mut parts: Vec<u32> = exact.iter().map(|part| part.floor() as u32).collect();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by(|one, other| exact[*other].fract().total_cmp(&exact[*one].fract()));
    let missing = WHOLE.saturating_sub(parts.iter().sum()) as usize;
    for at in by_remainder.into_iter().cycle().take(missing.min(shares.len())) {
        parts[at] += 1;
    }
    parts
}
