//! A backend that passes every health check and fails every call: who notices?

use std::time::{Duration, Instant};

use anyhow::Context;
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;
use shared::stats::Shares;

use super::claims::{failures, ms, wait_for};
use super::client::DataPlaneClient;
use super::limits::{LIMIT, RATE};
use super::mesh::{Mesh, start_backends};
use crate::backend::Backend;
use crate::caller::{Call, Load, Tally};
use crate::topology::render::BASE_EJECTION_TIME;
use crate::topology::{CLUSTER, DataPlane, DesiredState, HealthPolicy};

/// Calls to look at while the backend is out: half a second of load, well within its time.
const CALLS_WHILE_EJECTED: usize = 100;

/// Fewer than these prove nothing: the backend could have been passed over by chance.
const MIN_CALLS: u64 = 50;

impl Mesh {
    /// Envoy takes the failing backend out and lets it back; tonic-xds goes on calling it.
    pub(super) async fn outlier(&mut self, recorder: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let backends = start_backends("backend", 3, scope).await?;
        let state = DesiredState::new(self.desired_state.listen, backends.iter().map(Backend::address));
        self.publish_and_wait(&DesiredState { health_policy: HealthPolicy::OutlierDetection, ..state })
            .await?;
        for client in self.data_plane_clients()? {
            client.wait_for_backends(&backends).await?;
            backends[0].set_failing(true);
            match client.plane {
                DataPlane::Envoy => self.check_ejection(recorder, &client, &backends[0], scope).await?,
                DataPlane::Proxyless => check_not_ejected(recorder, &client, &backends).await,
            }
            backends[0].set_failing(false);
        }
        Ok(())
    }

    async fn check_ejection(
        &self,
        recorder: &mut Recorder,
        client: &DataPlaneClient,
        failing: &Backend,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let failure_start = Instant::now();
        let mut load = Load::start(client.caller.clone(), RATE, scope);
        self.wait_for_ejection(failing, true).await?;
        // After one more call the worker has taken it up.
        client.caller.call().await;
        let ejected = Instant::now();
        let ended = load.completed();
        wait_for("calls while it is out", || {
            let calls = load.completed() - ended;
            if calls >= CALLS_WHILE_EJECTED { Ok(()) } else { Err(format!("{calls} calls")) }
        })
        .await?;
        let calls = load.completed_calls();
        // When it was taken out is not known; only that it was not before it failed, nor is it back earlier.
        let while_ejected =
            |call: &&Call| call.started >= ejected && call.ended() < failure_start + BASE_EJECTION_TIME;
        let (before, during): (Tally, Tally) = (
            calls.iter().filter(|call| call.started < ejected).collect(),
            calls.iter().filter(while_ejected).collect(),
        );
        recorder.note(format!(
            "out after {}, and {} failed calls",
            ms(ejected - failure_start),
            before.failed()
        ));
        let n = during.failed() + during.shares.total();
        let (id, claim) =
            ("outlier-ejected", "Envoy takes out a backend that fails, and no call fails while it is out");
        let expected = format!("0 of {n} fail, {} gets none", failing.name());
        if n < MIN_CALLS {
            let why =
                format!("only {n} calls ended while it was surely out: this machine is too busy just now");
            recorder.not_checked(id, claim, expected, why);
        } else {
            let holds = during.failed() == 0 && during.shares.of(failing.name()) == 0;
            recorder.claim(id, claim, expected, format!("{}; {}", failures(&during), during.shares), holds);
        }
        failing.set_failing(false);
        let recovery = Instant::now();
        let readmitted = load.first_matching(recovery, LIMIT, |call| call.answered_by(failing.name())).await;
        let readmitted = readmitted.context("the healed backend never answered again")?;
        recorder.claim(
            "outlier-readmitted",
            "It comes back when its time is over",
            format!("answers again, and not within {} of its first failure", ms(BASE_EJECTION_TIME)),
            format!("{} after it began to fail", ms(readmitted - failure_start)),
            readmitted - failure_start >= BASE_EJECTION_TIME,
        );
        drop(load.stop().await);
        Ok(())
    }

    /// Waits until Envoy says that it has, or has not, taken this backend out.
    async fn wait_for_ejection(&self, backend: &Backend, ejected: bool) -> anyhow::Result<()> {
        let sidecar = self.envoy.as_ref().context("this run has no Envoy")?;
        poll::wait_until("Envoy's outlier detection", Duration::from_millis(5), LIMIT, || async {
            let clusters = sidecar.envoy.admin().clusters().await.map_err(|error| error.to_string())?;
            let mut hosts =
                clusters.iter().filter(|one| one.name == CLUSTER).flat_map(|cluster| &cluster.hosts);
            let host = hosts.find(|host| host.address == backend.address()).ok_or("no such host")?;
            let now = host.health.failed_outlier_check;
            if now == ejected { Ok(()) } else { Err(format!("ejected: {now}")) }
        })
        .await?;
        Ok(())
    }
}

/// Shown as what it is: this client has no such detection switched on by Envoy's settings.
///
/// A backend that is taken out for a while, or called less, has no third of the calls: one failure proves nothing.
async fn check_not_ejected(recorder: &mut Recorder, client: &DataPlaneClient, backends: &[Backend]) {
    // By now it could have known.
    client.measure().await;
    let seen = client.measure().await;
    let answered = seen.shares.iter();
    let shares = Shares::from_counts(answered.chain([(backends[0].name(), seen.failed())]));
    let fit = shares.fit_evenly(backends.iter().map(Backend::name));
    let answered_by_failing = seen.shares.of(backends[0].name());
    recorder.claim(
        "outlier-proxyless",
        "A limit of this client: tonic-xds goes on giving the failing backend its third",
        format!("a third of {} calls fail, chi² at most {:.2}", fit.n, fit.bound),
        format!("{}; chi² {:.2}", failures(&seen), fit.statistic),
        fit.holds() && answered_by_failing == 0,
    );
}
