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
    let demand: f64 = regions.iter().map(|region| region.load).sum();
    let mut left = demand.max(1.0);
    let mut given = Vec::new();
    for (at, region) in regions.iter().enumerate() {
        let here = if at == 0 { left.min(0.9 * region.limit) } else { left };
        given.push(here);
        left -= here;
    }
    let placed: f64 = given.iter().sum();
    given.iter().map(|here| (here / placed * 1000.0).round() as u32).collect()
}
