//! Load reports over time: what they add up to, and which of them were made under the weights of now.
//!
//! Knows rates and moments. Does not know who steers by them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use mesh_xds::load_reports::Load;
use shared::stats::Shares;

use super::mesh::LOAD_REPORT_INTERVAL;
use crate::topology::CLUSTER;

/// One look at the load.
pub(super) struct Sample {
    pub(super) at: Instant,
    /// Calls a second by region, as the newest reports tell.
    pub(super) measured: BTreeMap<String, f64>,
    /// What that should be, in the order of the regions.
    pub(super) target: Vec<f64>,
}

/// Returns the calls that the samples since `started` report, each for the time since the one before it.
pub(super) fn reported_calls(samples: &[Sample], started: Instant) -> f64 {
    let start = std::iter::once(started).chain(samples.iter().map(|sample| sample.at));
    let reported = samples.iter().zip(start).map(|(sample, start)| {
        sample.measured.values().sum::<f64>() * sample.at.duration_since(start).as_secs_f64()
    });
    reported.sum()
}

/// The first reports of a client after a change that are left out: one may have been on its way already, and the
/// next one covers the time of the change.
const SKIPPED_REPORTS: u32 = 2;

/// The load reports since the last change of weights.
pub(super) struct SteadyStateReports {
    /// Each client's newest report, and how many it made since.
    newest: BTreeMap<Arc<str>, (Vec<Load>, u32)>,
    calls: BTreeMap<String, f64>,
    /// How many were counted.
    pub(super) reports: u32,
}

impl SteadyStateReports {
    /// Begins when these are the newest loads.
    pub(super) fn since(loads: Vec<Load>) -> Self {
        let newest = by_node(loads).into_iter().map(|(node, report)| (node, (report, 0))).collect();
        Self { newest, calls: BTreeMap::new(), reports: 0 }
    }

    /// Records new reports. Two reports never have the same rates, because their intervals are in nanoseconds.
    pub(super) fn record(&mut self, loads: Vec<Load>) {
        for (node, report) in by_node(loads) {
            let (newest, count) = self.newest.entry(node).or_default();
            if *newest == report {
                continue;
            }
            newest.clone_from(&report);
            *count += 1;
            if *count > SKIPPED_REPORTS {
                self.reports += 1;
                for load in report {
                    *self.calls.entry(load.region).or_default() +=
                        load.rate * LOAD_REPORT_INTERVAL.as_secs_f64();
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
    fn reports_that_cover_the_change_and_duplicates_are_skipped() {
        let mut steady = SteadyStateReports::since(report("a", 1.0));
        for rate in [1.0, 2.0, 3.0, 3.0, 100.0, 100.0, 60.0] {
            steady.record(report("a", rate));
        }
        assert_eq!(steady.reports, 2);
        assert_eq!(steady.calls().of("east"), 80, "each tells of half a second");
    }

    #[test]
    fn the_first_reports_of_each_client_are_skipped() {
        let mut steady = SteadyStateReports::since(report("a", 1.0));
        for rate in [2.0, 3.0] {
            steady.record([report("a", rate), report("b", rate)].concat());
        }
        assert_eq!(steady.reports, 0);
    }

    #[test]
    fn a_sample_counts_for_the_interval_before_it() {
        let started = Instant::now();
        let sample = |ms, rate| Sample {
            at: started + Duration::from_millis(ms),
            measured: [("east".to_owned(), rate)].into(),
            target: Vec::new(),
        };
        let reported = reported_calls(&[sample(500, 100.0), sample(750, 200.0)], started);
        assert!((reported - 100.0).abs() < 1e-6, "{reported}");
    }
}
