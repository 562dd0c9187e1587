//! Global feedback: what no proxy can see alone, the control plane sees in their load reports.
//!
//! ```text
//!   Envoy 1 ──load report──┐                                   ┌──weights (RDS)──> Envoy 1
//!                          ├──> sum a region ──> balance::weights ──┤
//!   Envoy 2 ──load report──┘                                   └──weights (RDS)──> Envoy 2, proxyless
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use shared::lifecycle::Lifecycle;
use shared::report::Recorder;

use super::claims::{by_region, no_call_failed, shares_fit};
use super::client::DataPlaneClient;
use super::mesh::{Mesh, SECOND_ENVOY, Sidecar, start_backends};
use super::plot::{Curve, plot};
use super::reports::{Sample, SteadyStateReports, reported_calls};
use super::window::window;
use crate::backend::Backend;
use crate::balance::{Site, TOTAL_WEIGHT, weights};
use crate::caller::{Load, Tally};
use crate::topology::{CLUSTER, DataPlane, DesiredState, Region, Split};

/// The regions: name, preference in per cent, capacity in calls a second.
const REGIONS: [(&str, f64, f64); 3] = [("east", 80.0, 150.0), ("west", 15.0, 400.0), ("south", 5.0, 400.0)];

/// The targets of the regions, by their place, as the plot names them.
const TARGET_CURVES: [(usize, &str); 3] = [(0, "east's target"), (1, "west's"), (2, "south's")];

/// What each of the two Envoys is given, in calls a second. 80 % of it are 136: east can take that from
/// one of them, and not from both. All of it is more than east can take, so that the split matters: of the 510 calls in
/// which it is watched, a true 80 % are taken for more than east can take once in 1.8 million times.
const RATE_PER_ENVOY: u32 = 170;

/// How full a region may be planned: chance makes the load of a moment differ from the plan.
const TARGET_UTILIZATION: f64 = 0.8;

/// How long load is watched without feedback, and with it once the weights have come to rest.
const OBSERVATION: Duration = Duration::from_secs(3);

/// How many reports on the last weights there must be at least, of half a second each. They tell of 1,360 calls: a region
/// that gets half as much again as it should is seen, and with half as many reports it was missed.
const MIN_REPORTS: u32 = 16;

/// How often the load is looked at: twice in the time between two reports of one Envoy, of which there are two.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// Lines of the plot: enough for east's target and its capacity to be on different ones.
const PLOT_HEIGHT: usize = 13;

/// How long weights may take to come to rest. On a machine that stops and goes, so does the load that is reported.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(90);

/// A change of weights that is worth a message, in thousandths.
const MIN_WEIGHT_CHANGE: u32 = 20;

/// How far the calls that reports tell of may be from those that clients sent, as a part of them. What is sent in the
/// last second is not reported yet, and a report is taken to hold until the next one: at a steady rate that is nothing,
/// and on a machine that stops and goes it is at most that second's calls, of more than six seconds.
const REPORT_TOLERANCE: f64 = 0.15;

impl Mesh {
    /// The control plane turns the load that both Envoys report into weights.
    pub(super) async fn feedback(
        &mut self,
        recorder: &mut Recorder,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let mut all = Vec::new();
        let mut regions = Vec::new();
        for (name, preference, _) in REGIONS {
            let here = start_backends(name, 2, scope).await?;
            regions.push(Region::new(name, preference as u32 * 10, here.iter().map(Backend::address)));
            all.extend(here);
        }
        let state = DesiredState {
            split: Split::Routes,
            ..DesiredState::from_regions(self.desired_state.listen, regions)
        };
        self.publish_and_wait(&state).await?;
        let second = self.start_second_envoy(scope).await?;
        let first = self.envoy.as_ref().context("this run has no Envoy")?.caller.clone();
        let callers = [first, second.caller.clone()];
        for caller in &callers {
            DataPlaneClient::new(DataPlane::Envoy, caller.clone()).wait_for_backends(&all).await?;
        }

        let loads = callers.each_ref().map(|caller| Load::start(caller.clone(), RATE_PER_ENVOY, scope));
        let mut samples: Vec<Sample> = Vec::new();
        let bar = recorder.progress("seconds of load", 2 * OBSERVATION.as_secs());
        // Without feedback.
        self.wait_for_reports(2.0 * f64::from(RATE_PER_ENVOY)).await?;
        let started = Instant::now();
        while started.elapsed() < OBSERVATION {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            samples.push(self.sample());
            bar.set_position(started.elapsed().as_secs());
        }
        let before = window(&loads, RATE_PER_ENVOY, started, Instant::now());
        // With feedback, until the weights rest, and then as long again.
        let mut last_change = Instant::now();
        let mut steady = SteadyStateReports::since(self.loads.loads());
        let feedback_column = samples.len();
        let feedback_start = Instant::now();
        while last_change.elapsed() < OBSERVATION || steady.reports < MIN_REPORTS {
            anyhow::ensure!(
                feedback_start.elapsed() < CONVERGENCE_LIMIT,
                "the weights did not come to rest within {CONVERGENCE_LIMIT:?}"
            );
            // Once they have come to rest they are left alone, so that all reports that count are on the same weights.
            if last_change.elapsed() < OBSERVATION && self.update_weights()? {
                let published = self.publish(&self.desired_state.clone())?;
                self.wait_until_applied(&published, DataPlane::Envoy.name(), &callers[0]).await?;
                self.wait_until_applied(&published, SECOND_ENVOY, &callers[1]).await?;
                last_change = Instant::now();
                steady = SteadyStateReports::since(self.loads.loads());
            }
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            steady.record(self.loads.loads());
            samples.push(self.sample());
            bar.set_position(OBSERVATION.as_secs() + last_change.elapsed().as_secs());
        }
        let ended = Instant::now();
        let after = window(&loads, RATE_PER_ENVOY, last_change, ended);
        let reported = reported_calls(&samples, started);
        bar.finish_and_clear();
        let mut calls = Vec::new();
        for load in loads {
            calls.extend(load.stop().await);
        }
        plot_loads(recorder, &samples, feedback_column);
        let sent = calls.iter().filter(|call| call.started >= started && call.started < ended).count() as f64;
        recorder.claim(
            "feedback-reports-match",
            "What Envoys report is what clients sent",
            format!("{sent:.0} calls ± {:.0} %", 100.0 * REPORT_TOLERANCE),
            format!("{reported:.0} calls, {:.1} % off", 100.0 * (reported / sent - 1.0).abs()),
            (reported - sent).abs() <= REPORT_TOLERANCE * sent,
        );
        let capacity = REGIONS[0].2;
        let target =
            self.desired_state.regions.iter().map(|region| (region.name.as_str(), f64::from(region.weight)));
        let fit = after.tally.shares.fit(target.clone());
        let together: f64 = before.east_rate.iter().sum();
        recorder.claim(
            "feedback-overload",
            "Without feedback each Envoy is within east's capacity, and both together are over it",
            format!(
                "each under {capacity:.0} of {RATE_PER_ENVOY} calls a second (n {} and {}), together over {capacity:.0}",
                before.n[0], before.n[1]
            ),
            format!("{:.0} and {:.0}, together {together:.0}", before.east_rate[0], before.east_rate[1]),
            before.east_rate.iter().all(|rate| *rate < capacity) && together > capacity,
        );
        recorder.claim(
            "feedback-under-capacity",
            "With feedback east stays under its capacity",
            format!(
                "at most {capacity:.0} calls a second, planned {:.0} (n {})",
                TARGET_UTILIZATION * capacity,
                after.tally.shares.total()
            ),
            format!("{:.0} over {:.1} s", after.rate("east"), after.seconds),
            after.rate("east") <= capacity && after.tally.shares.of("east") > 0,
        );
        let planned: Vec<String> =
            target.clone().map(|(name, weight)| format!("{name} {:.1} %", weight / 10.0)).collect();
        let planned = planned.join(", ");
        shares_fit(
            recorder,
            "feedback-split",
            "The others take the rest, as planned",
            &planned,
            &after.tally,
            fit,
        );
        let from_reports = Tally { shares: steady.calls(), ..Tally::default() };
        let fit = from_reports.shares.fit(target);
        shares_fit(
            recorder,
            "feedback-converged",
            "The load that Envoys report has come to its target",
            &format!("after {} reports on the last weights: {planned},", steady.reports),
            &from_reports,
            fit,
        );
        no_call_failed(recorder, "feedback-no-failure", "No call fails while weights move", &calls);
        if self.plan.planes.has(DataPlane::Proxyless) {
            self.check_proxyless_client(recorder, &all, &planned).await?;
        }
        Ok(())
    }

    /// A client that reports nothing is given the same weights.
    async fn check_proxyless_client(
        &self,
        recorder: &mut Recorder,
        all: &[Backend],
        planned: &str,
    ) -> anyhow::Result<()> {
        let client = DataPlaneClient::new(DataPlane::Proxyless, self.proxyless_client()?);
        client.wait_for_backends(all).await?;
        let mut seen = client.measure_calls(600).await;
        seen.shares = by_region(&seen.shares);
        let target =
            self.desired_state.regions.iter().map(|region| (region.name.as_str(), f64::from(region.weight)));
        let fit = seen.shares.fit(target);
        shares_fit(
            recorder,
            "feedback-proxyless",
            "The proxyless client, which reports no load itself, gets the same weights",
            planned,
            &seen,
            fit,
        );
        Ok(())
    }

    async fn start_second_envoy(&self, scope: &Lifecycle) -> anyhow::Result<Sidecar> {
        let any = ([127, 0, 0, 1], 0).into();
        let started = self.start_envoy(SECOND_ENVOY, any, scope).await?;
        self.wait_until_serving(started).await
    }

    /// Calls a second to each region, as all Envoys together report it.
    fn measured_load(&self) -> BTreeMap<String, f64> {
        self.loads.by_region(|cluster| cluster.starts_with(CLUSTER))
    }

    /// The load of now, and what it should be by the rule that steers, whether or not it steers yet.
    fn sample(&self) -> Sample {
        let measured = self.measured_load();
        let demand: f64 = measured.values().sum();
        let target = weights(demand, &sites())
            .into_iter()
            .map(|part| demand * f64::from(part) / f64::from(TOTAL_WEIGHT));
        Sample { at: Instant::now(), measured, target: target.collect() }
    }

    /// Waits until the reports tell of nearly all of this load.
    async fn wait_for_reports(&self, rate: f64) -> anyhow::Result<()> {
        super::claims::wait_for("load reports", || {
            let reported: f64 = self.measured_load().values().sum();
            if reported > 0.9 * rate {
                Ok(())
            } else {
                Err(format!("{reported:.0} of {rate:.0} calls a second"))
            }
        })
        .await
    }

    /// Sets the weights for the load of now; says whether that changed anything worth telling.
    fn update_weights(&mut self) -> anyhow::Result<bool> {
        let demand: f64 = self.measured_load().values().sum();
        let updated = weights(demand, &sites());
        let changed = self
            .desired_state
            .regions
            .iter()
            .zip(&updated)
            .any(|(region, to)| region.weight.abs_diff(*to) > MIN_WEIGHT_CHANGE);
        if changed {
            self.desired_state = self.desired_state.clone().with_weights(&updated);
        }
        Ok(changed)
    }
}

/// The regions as the decision sees them.
fn sites() -> [Site; 3] {
    REGIONS.map(|(_, preference, capacity)| Site { preference, capacity: TARGET_UTILIZATION * capacity })
}

/// Reported loads in small letters, and behind them in capitals what they should be.
fn plot_loads(recorder: &mut Recorder, samples: &[Sample], feedback_column: usize) {
    let letter = |name: &str| name.chars().next().unwrap_or('?');
    let measured = REGIONS.map(|(name, _, _)| Curve {
        letter: letter(name),
        name,
        values: samples.iter().map(|sample| sample.measured.get(name).copied().unwrap_or(0.0)).collect(),
    });
    let targets = TARGET_CURVES.map(|(at, name)| Curve {
        letter: letter(name).to_ascii_uppercase(),
        name,
        values: samples.iter().map(|sample| sample.target[at]).collect(),
    });
    let curves = [measured, targets].concat();
    recorder.note(format!(
        "reported load in calls a second, one column each {SAMPLE_INTERVAL:?}; feedback from column {}:",
        feedback_column + 1
    ));
    for line in plot(&curves, ("east's capacity", REGIONS[0].2), "", PLOT_HEIGHT) {
        recorder.note(line);
    }
}
