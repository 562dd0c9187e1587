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
use super::lane::Lane;
use super::mesh::{Mesh, SECOND, Sidecar, backends};
use super::plot::{Curve, plot};
use super::reports::{Resting, Sample, calls_told};
use super::window::window;
use crate::backend::Backend;
use crate::balance::{Site, WHOLE, weights};
use crate::caller::{Load, Tally};
use crate::topology::{CLUSTER, DataPlane, Region, Split, World};

/// The regions: name, preference in per cent, capacity in calls a second.
const REGIONS: [(&str, f64, f64); 3] = [("east", 80.0, 150.0), ("west", 15.0, 400.0), ("south", 5.0, 400.0)];

/// The targets of the regions, by their place, as the plot names them.
const TARGETS: [(usize, &str); 3] = [(0, "east's target"), (1, "west's"), (2, "south's")];

/// What each of the two Envoys is given, in calls a second. 80 % of it are 136: east can take that from
/// one of them, and not from both. All of it is more than east can take, so that the split matters: of the 510 calls in
/// which it is watched, a true 80 % are taken for more than east can take once in 1.8 million times.
const EACH: u32 = 170;

/// How full a region may be planned: chance makes the load of a moment differ from the plan.
const FULL: f64 = 0.8;

/// How long load is watched without feedback, and with it once the weights have come to rest.
const WATCH: Duration = Duration::from_secs(3);

/// How many reports on the last weights there must be at least, of half a second each. They tell of 1,360 calls: a region
/// that gets half as much again as it should is seen, and with half as many reports it was missed.
const ENOUGH: u32 = 16;

/// How often the load is looked at: twice in the time between two reports of one Envoy, of which there are two.
const LOOK: Duration = Duration::from_millis(250);

/// Lines of the plot: enough for east's target and its capacity to be on different ones.
const HEIGHT: usize = 13;

/// How long weights may take to come to rest. On a machine that stops and goes, so does the load that is reported.
const REST: Duration = Duration::from_secs(90);

/// A change of weights that is worth a message, in thousandths.
const WORTH: u32 = 20;

/// How far the calls that reports tell of may be from those that clients sent, as a part of them. What is sent in the
/// last second is not reported yet, and a report is taken to hold until the next one: at a steady rate that is nothing,
/// and on a machine that stops and goes it is at most that second's calls, of more than six seconds.
const UNREPORTED: f64 = 0.15;

impl Mesh {
    /// The control plane turns the load that both Envoys report into weights.
    pub(super) async fn feedback(&mut self, story: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let mut all = Vec::new();
        let mut regions = Vec::new();
        for (name, preference, _) in REGIONS {
            let here = backends(name, 2, scope).await?;
            regions.push(Region::new(name, preference as u32 * 10, here.iter().map(Backend::address)));
            all.extend(here);
        }
        let world = World { split: Split::Routes, ..World::of(self.world.listen, regions) };
        self.show(&world).await?;
        let second = self.second_envoy(scope).await?;
        let first = self.envoy.as_ref().context("this run has no Envoy")?.caller.clone();
        let callers = [first, second.caller.clone()];
        for caller in &callers {
            Lane::new(DataPlane::Envoy, caller.clone()).reach(&all).await?;
        }

        let loads = callers.each_ref().map(|caller| Load::start(caller.clone(), EACH, scope));
        let mut samples: Vec<Sample> = Vec::new();
        let bar = story.progress("seconds of load", 2 * WATCH.as_secs());
        // Without feedback.
        self.reports_cover(2.0 * f64::from(EACH)).await?;
        let begun = Instant::now();
        while begun.elapsed() < WATCH {
            tokio::time::sleep(LOOK).await;
            samples.push(self.sample());
            bar.set_position(begun.elapsed().as_secs());
        }
        let before = window(&loads, EACH, begun, Instant::now());
        // With feedback, until the weights rest, and then as long again.
        let mut rest = Instant::now();
        let mut at_rest = Resting::since(self.loads.loads());
        let switched = samples.len();
        let steering = Instant::now();
        while rest.elapsed() < WATCH || at_rest.reports < ENOUGH {
            anyhow::ensure!(steering.elapsed() < REST, "the weights did not come to rest within {REST:?}");
            // Once they have come to rest they are left alone, so that all reports that count are on the same weights.
            if rest.elapsed() < WATCH && self.steer()? {
                let published = self.publish(&self.world.clone())?;
                self.routes_by(&published, DataPlane::Envoy.name(), &callers[0]).await?;
                self.routes_by(&published, SECOND, &callers[1]).await?;
                rest = Instant::now();
                at_rest = Resting::since(self.loads.loads());
            }
            tokio::time::sleep(LOOK).await;
            at_rest.hear(self.loads.loads());
            samples.push(self.sample());
            bar.set_position(WATCH.as_secs() + rest.elapsed().as_secs());
        }
        let ended = Instant::now();
        let after = window(&loads, EACH, rest, ended);
        let reported = calls_told(&samples, begun);
        bar.finish_and_clear();
        let mut calls = Vec::new();
        for load in loads {
            calls.extend(load.stop().await);
        }
        draw(story, &samples, switched);
        let sent = calls.iter().filter(|call| call.started >= begun && call.started < ended).count() as f64;
        story.claim(
            "feedback-reported",
            "What Envoys report is what clients sent",
            format!("{sent:.0} calls ± {:.0} %", 100.0 * UNREPORTED),
            format!("{reported:.0} calls, {:.1} % off", 100.0 * (reported / sent - 1.0).abs()),
            (reported - sent).abs() <= UNREPORTED * sent,
        );
        let capacity = REGIONS[0].2;
        let target = self.world.regions.iter().map(|region| (region.name.as_str(), f64::from(region.weight)));
        let fit = after.seen.shares.fit(target.clone());
        let together: f64 = before.each.iter().sum();
        story.claim(
            "feedback-overload",
            "Without feedback each Envoy is within east's capacity, and both together are over it",
            format!(
                "each under {capacity:.0} of {EACH} calls a second (n {} and {}), together over {capacity:.0}",
                before.n[0], before.n[1]
            ),
            format!("{:.0} and {:.0}, together {together:.0}", before.each[0], before.each[1]),
            before.each.iter().all(|rate| *rate < capacity) && together > capacity,
        );
        story.claim(
            "feedback-under-capacity",
            "With feedback east stays under its capacity",
            format!(
                "at most {capacity:.0} calls a second, planned {:.0} (n {})",
                FULL * capacity,
                after.seen.shares.total()
            ),
            format!("{:.0} over {:.1} s", after.rate("east"), after.seconds),
            after.rate("east") <= capacity && after.seen.shares.of("east") > 0,
        );
        let planned: Vec<String> =
            target.clone().map(|(name, weight)| format!("{name} {:.1} %", weight / 10.0)).collect();
        let planned = planned.join(", ");
        shares_fit(
            story,
            "feedback-split",
            "The others take the rest, as planned",
            &planned,
            &after.seen,
            fit,
        );
        let told = Tally { shares: at_rest.calls(), ..Tally::default() };
        let fit = told.shares.fit(target);
        shares_fit(
            story,
            "feedback-converges",
            "The load that Envoys report has come to its target",
            &format!("after {} reports on the last weights: {planned},", at_rest.reports),
            &told,
            fit,
        );
        no_call_failed(story, "feedback-no-failure", "No call fails while weights move", &calls);
        if self.plan.planes.has(DataPlane::Proxyless) {
            self.proxyless_follows(story, &all, &planned).await?;
        }
        Ok(())
    }

    /// A client that reports nothing is given the same weights.
    async fn proxyless_follows(
        &self,
        story: &mut Recorder,
        all: &[Backend],
        planned: &str,
    ) -> anyhow::Result<()> {
        let lane = Lane::new(DataPlane::Proxyless, self.proxyless()?);
        lane.reach(all).await?;
        let mut seen = lane.measure(600).await;
        seen.shares = by_region(&seen.shares);
        let target = self.world.regions.iter().map(|region| (region.name.as_str(), f64::from(region.weight)));
        let fit = seen.shares.fit(target);
        shares_fit(
            story,
            "feedback-proxyless",
            "The proxyless client, which reports no load itself, gets the same weights",
            planned,
            &seen,
            fit,
        );
        Ok(())
    }

    async fn second_envoy(&self, scope: &Lifecycle) -> anyhow::Result<Sidecar> {
        let any = ([127, 0, 0, 1], 0).into();
        let started = self.start_envoy(SECOND, any, scope).await?;
        self.sidecar(started).await
    }

    /// Calls a second to each region, as all Envoys together report it.
    fn measured_load(&self) -> BTreeMap<String, f64> {
        self.loads.by_region(|cluster| cluster.starts_with(CLUSTER))
    }

    /// The load of now, and what it should be by the rule that steers, whether or not it steers yet.
    fn sample(&self) -> Sample {
        let measured = self.measured_load();
        let demand: f64 = measured.values().sum();
        let target =
            weights(demand, &sites()).into_iter().map(|part| demand * f64::from(part) / f64::from(WHOLE));
        Sample { at: Instant::now(), measured, target: target.collect() }
    }

    /// Waits until the reports tell of nearly all of this load.
    async fn reports_cover(&self, rate: f64) -> anyhow::Result<()> {
        super::claims::wait_for("load reports", || {
            let told: f64 = self.measured_load().values().sum();
            if told > 0.9 * rate { Ok(()) } else { Err(format!("{told:.0} of {rate:.0} calls a second")) }
        })
        .await
    }

    /// Sets the weights for the load of now; says whether that changed anything worth telling.
    fn steer(&mut self) -> anyhow::Result<bool> {
        let demand: f64 = self.measured_load().values().sum();
        let now = weights(demand, &sites());
        let changed =
            self.world.regions.iter().zip(&now).any(|(region, to)| region.weight.abs_diff(*to) > WORTH);
        if changed {
            self.world = self.world.clone().with_weights(&now);
        }
        Ok(changed)
    }
}

/// The regions as the decision sees them.
fn sites() -> [Site; 3] {
    REGIONS.map(|(_, preference, capacity)| Site { preference, capacity: FULL * capacity })
}

/// Reported loads in small letters, and behind them in capitals what they should be.
fn draw(story: &mut Recorder, samples: &[Sample], switched: usize) {
    let letter = |name: &str| name.chars().next().unwrap_or('?');
    let measured = REGIONS.map(|(name, _, _)| Curve {
        letter: letter(name),
        name,
        values: samples.iter().map(|sample| sample.measured.get(name).copied().unwrap_or(0.0)).collect(),
    });
    let targets = TARGETS.map(|(at, name)| Curve {
        letter: letter(name).to_ascii_uppercase(),
        name,
        values: samples.iter().map(|sample| sample.target[at]).collect(),
    });
    let curves = [measured, targets].concat();
    story.note(format!(
        "reported load in calls a second, one column each {LOOK:?}; feedback from column {}:",
        switched + 1
    ));
    for line in plot(&curves, ("east's capacity", REGIONS[0].2), "", HEIGHT) {
        story.note(line);
    }
}
