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
    // Whoever got too much gets less; the rest goes far away.
    let mut weights = Vec::new();
    let whole: u32 = regions.iter().map(|region| region.weight).sum();
    for region in &regions[..regions.len() - 1] {
        let fits = (0.9 * region.limit / region.load.max(1.0)).min(1.0);
        weights.push((f64::from(region.weight) * fits) as u32);
    }
    weights.push(whole.saturating_sub(weights.iter().sum()));
    weights
}
