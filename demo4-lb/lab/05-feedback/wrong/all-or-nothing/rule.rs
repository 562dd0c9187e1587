//! Load in, weights out.

/// A region as the control plane knows it. They come in order: the nearest one first.
#[derive(Clone, Debug)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Calls a second that it got, by the newest reports.
    pub load: f64,
    /// Calls a second that it can take.
    pub limit: f64,
    /// Its weight until now.
    pub weight: u32,
}

/// The weight of each region, in their order.
pub fn weights(regions: &[Region]) -> Vec<u32> {
    // Too much in the nearest region: let the last one have it.
    let (first, last) = (&regions[0], regions.len() - 1);
    let chosen = if first.load > first.limit { last } else { 0 };
    (0..regions.len()).map(|at| if at == chosen { 1000 } else { 0 }).collect()
}
