//! Load reports over time: what they add up to, and which of them were made under the weights of now.
//!
//! Knows rates and moments. Does not know who steers by them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use mesh_xds::load_reports::Load;
use shared::stats::Shares;

use super::mesh::REPORTS;
use crate::topology::CLUSTER;

/// One look at the load.
pub(super) struct Sample {
    pub(super) at: Instant,
    /// Calls a second by region, as the newest reports tell.
    pub(super) measured: BTreeMap<String, f64>,
    /// What that should be, in the order of the regions.
    pub(super) target: Vec<f64>,
}

/// How many calls the samples since `begun` tell of: each for the time since the one before it.
pub(super) fn calls_told(samples: &[Sample], begun: Instant) -> f64 {
    let before = std::iter::once(begun).chain(samples.iter().map(|sample| sample.at));
    let told = samples.iter().zip(before).map(|(sample, before)| {
        sample.measured.values().sum::<f64>() * sample.at.duration_since(before).as_secs_f64()
    });
    told.sum()
}

/// The first reports of a client after a change that are left out: one may have been on its way already, and the
/// next one covers the time of the change.
const LEFT_OUT: u32 = 2;

/// The reports since the last change of weights.
pub(super) struct Resting {
    /// Each client's newest report, and how many it made since.
    newest: BTreeMap<Arc<str>, (Vec<Load>, u32)>,
    calls: BTreeMap<String, f64>,
    /// How many were counted.
    pub(super) reports: u32,
}

impl Resting {
    /// Begins when these are the newest loads.
    pub(super) fn since(loads: Vec<Load>) -> Self {
        let newest = by_node(loads).into_iter().map(|(node, report)| (node, (report, 0))).collect();
        Self { newest, calls: BTreeMap::new(), reports: 0 }
    }

    /// Takes note of what is new. Two reports have not the same rates: their times are told in nanoseconds.
    pub(super) fn hear(&mut self, loads: Vec<Load>) {
        for (node, report) in by_node(loads) {
            let (newest, heard) = self.newest.entry(node).or_default();
            if *newest == report {
                continue;
            }
            newest.clone_from(&report);
            *heard += 1;
            if *heard > LEFT_OUT {
                self.reports += 1;
                for load in report {
                    *self.calls.entry(load.region).or_default() += load.rate * REPORTS.as_secs_f64();
                }
            }
        }
    }

    /// The calls that the counted reports tell of, by region.
    pub(super) fn calls(&self) -> Shares {
        Shares::from_counts(self.calls.iter().map(|(region, calls)| (region.as_str(), calls.round() as u64)))
    }
}

/// The loads on the backends, by client.
fn by_node(loads: Vec<Load>) -> BTreeMap<Arc<str>, Vec<Load>> {
    let mut nodes: BTreeMap<Arc<str>, Vec<Load>> = BTreeMap::new();
    for load in loads.into_iter().filter(|load| load.cluster.starts_with(CLUSTER)) {
        nodes.entry(Arc::clone(&load.node)).or_default().push(load);
    }
    nodes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(node: &str, rate: f64) -> Vec<Load> {
        let (node, cluster, region) = (node.into(), format!("{CLUSTER}-east"), "east".to_owned());
        vec![Load { node, cluster, region, rate, errors: 0, in_progress: 0 }]
    }

    #[test]
    fn reports_of_the_time_of_the_change_and_those_heard_twice_are_left_out() {
        let mut resting = Resting::since(report("a", 1.0));
        for rate in [1.0, 2.0, 3.0, 3.0, 100.0, 100.0, 60.0] {
            resting.hear(report("a", rate));
        }
        assert_eq!(resting.reports, 2);
        assert_eq!(resting.calls().of("east"), 80, "each tells of half a second");
    }

    #[test]
    fn each_client_has_its_own_first_reports() {
        let mut resting = Resting::since(report("a", 1.0));
        for rate in [2.0, 3.0] {
            resting.hear([report("a", rate), report("b", rate)].concat());
        }
        assert_eq!(resting.reports, 0);
    }

    #[test]
    fn a_sample_counts_for_the_time_before_it() {
        let begun = Instant::now();
        let sample = |ms, rate| Sample {
            at: begun + Duration::from_millis(ms),
            measured: [("east".to_owned(), rate)].into(),
            target: Vec::new(),
        };
        let told = calls_told(&[sample(500, 100.0), sample(750, 200.0)], begun);
        assert!((told - 100.0).abs() < 1e-6, "{told}");
    }
}
