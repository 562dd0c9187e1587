//! A backend that passes every health check and fails every call: who notices?

use std::time::{Duration, Instant};

use anyhow::Context;
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;
use shared::stats::Shares;

use super::claims::{failures, ms, wait_for};
use super::lane::Lane;
use super::limits::{LIMIT, RATE};
use super::mesh::{Mesh, backends};
use crate::backend::Backend;
use crate::caller::{Call, Load, Tally};
use crate::topology::render::OUTLIER;
use crate::topology::{CLUSTER, Care, DataPlane, World};

/// Calls to look at while the backend is out: half a second of load, well within its time.
const WHILE_OUT: usize = 100;

/// Fewer than these prove nothing: the backend could have been passed over by chance.
const LEAST: u64 = 50;

impl Mesh {
    /// Envoy takes the failing backend out and lets it back; tonic-xds goes on calling it.
    pub(super) async fn outlier(&mut self, story: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let backends = backends("backend", 3, scope).await?;
        let world = World::new(self.world.listen, backends.iter().map(Backend::address));
        self.show(&World { care: Care::OutlierDetection, ..world }).await?;
        for lane in self.lanes()? {
            lane.reach(&backends).await?;
            backends[0].fail(true);
            match lane.plane {
                DataPlane::Envoy => self.ejects(story, &lane, &backends[0], scope).await?,
                DataPlane::Proxyless => goes_on(story, &lane, &backends).await,
            }
            backends[0].fail(false);
        }
        Ok(())
    }

    async fn ejects(
        &self,
        story: &mut Recorder,
        lane: &Lane,
        failing: &Backend,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut load = Load::start(lane.caller.clone(), RATE, scope);
        self.out(failing, true).await?;
        // After one more call the worker has taken it up.
        lane.caller.call().await;
        let out = Instant::now();
        let ended = load.so_far();
        wait_for("calls while it is out", || {
            let calls = load.so_far() - ended;
            if calls >= WHILE_OUT { Ok(()) } else { Err(format!("{calls} calls")) }
        })
        .await?;
        let calls = load.snapshot();
        // When it was taken out is not known; only that it was not before it failed, nor is it back earlier.
        let meanwhile = |call: &&Call| call.started >= out && call.ended() < begun + OUTLIER.1;
        let (before, during): (Tally, Tally) = (
            calls.iter().filter(|call| call.started < out).collect(),
            calls.iter().filter(meanwhile).collect(),
        );
        story.note(format!("out after {}, and {} failed calls", ms(out - begun), before.failed()));
        let n = during.failed() + during.shares.total();
        let (id, claim) =
            ("outlier-ejected", "Envoy takes out a backend that fails, and no call fails while it is out");
        let expected = format!("0 of {n} fail, {} gets none", failing.name());
        if n < LEAST {
            let why =
                format!("only {n} calls ended while it was surely out: this machine is too busy just now");
            story.not_checked(id, claim, expected, why);
        } else {
            let well = during.failed() == 0 && during.shares.of(failing.name()) == 0;
            story.claim(id, claim, expected, format!("{}; {}", failures(&during), during.shares), well);
        }
        failing.fail(false);
        let healed = Instant::now();
        let back = load.first_after(healed, LIMIT, |call| call.answered_by(failing.name())).await;
        let back = back.context("the healed backend never answered again")?;
        story.claim(
            "outlier-returns",
            "It comes back when its time is over",
            format!("answers again, and not within {} of its first failure", ms(OUTLIER.1)),
            format!("{} after it began to fail", ms(back - begun)),
            back - begun >= OUTLIER.1,
        );
        drop(load.stop().await);
        Ok(())
    }

    /// Waits until Envoy says that it has, or has not, taken this backend out.
    async fn out(&self, backend: &Backend, out: bool) -> anyhow::Result<()> {
        let sidecar = self.envoy.as_ref().context("this run has no Envoy")?;
        poll::wait_until("Envoy's outlier detection", Duration::from_millis(5), LIMIT, || async {
            let clusters = sidecar.envoy.admin().clusters().await.map_err(|error| error.to_string())?;
            let mut hosts =
                clusters.iter().filter(|one| one.name == CLUSTER).flat_map(|cluster| &cluster.hosts);
            let host = hosts.find(|host| host.address == backend.address()).ok_or("no such host")?;
            let now = host.health.failed_outlier_check;
            if now == out { Ok(()) } else { Err(format!("ejected: {now}")) }
        })
        .await?;
        Ok(())
    }
}

/// Shown as what it is: this client has no such detection switched on by Envoy's settings.
///
/// A backend that is taken out for a while, or called less, has no third of the calls: one failure proves nothing.
async fn goes_on(story: &mut Recorder, lane: &Lane, backends: &[Backend]) {
    // By now it could have known.
    lane.measured().await;
    let seen = lane.measured().await;
    let answered = seen.shares.iter();
    let shares = Shares::from_counts(answered.chain([(backends[0].name(), seen.failed())]));
    let fit = shares.fit_evenly(backends.iter().map(Backend::name));
    let answered_meanwhile = seen.shares.of(backends[0].name());
    story.claim(
        "outlier-proxyless",
        "A limit of this client: tonic-xds goes on giving the failing backend its third",
        format!("a third of {} calls fail, chi² at most {:.2}", fit.n, fit.bound),
        format!("{}; chi² {:.2}", failures(&seen), fit.statistic),
        fit.holds() && answered_meanwhile == 0,
    );
}
