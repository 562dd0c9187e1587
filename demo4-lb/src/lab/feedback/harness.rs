//! Asks the student's rule for the weights of regions.

use crate::student::{Region, weights};

/// `NAME,LOAD,LIMIT,WEIGHT;…` in, nearest first; weights, separated by commas, out.
pub fn answer(question: &str) -> String {
    let region = |text: &str| {
        let [name, load, limit, weight] = text.split(',').collect::<Vec<_>>()[..] else { unreachable!() };
        Region {
            name: name.to_owned(),
            load: load.parse().expect("a number"),
            limit: limit.parse().expect("a number"),
            weight: weight.parse().expect("a number"),
        }
    };
    let regions: Vec<Region> = question.split(';').map(region).collect();
    weights(&regions).iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
