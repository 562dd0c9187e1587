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
    // Who can take more gets more.
    regions.iter().map(|region| region.limit as u32).collect()
}
