//! A region falls ill backend by backend: how calls spill over to the next, fail over, and return.

use std::sync::Arc;
use std::time::Duration;

use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;

use super::claims::{by_region, failures, shares_fit};
use super::client::DataPlaneClient;
use super::limits::{CALLS, LIMIT};
use super::mesh::{Mesh, start_backends};
use crate::backend::Backend;
use crate::health;
use crate::topology::{CLUSTER, DataPlane, DesiredState, HealthPolicy, Region};

/// Backends in each of the two regions.
const BACKENDS: usize = 4;

/// Envoy takes a priority for healthy as long as this times its share of healthy backends is at least 1.
///
/// Source: ["Priority levels"](https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/load_balancing/priority).
const OVERPROVISIONING_FACTOR: f64 = 1.4;

/// How often the control plane asks backends for their health.
const HEALTH_POLL_INTERVAL: Duration = Duration::from_millis(100);

impl Mesh {
    /// East has the higher priority and loses its backends one by one.
    pub(super) async fn priorities(
        &mut self,
        recorder: &mut Recorder,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let east = start_backends("east", BACKENDS, scope).await?;
        let west = start_backends("west", BACKENDS, scope).await?;
        let primary = Region::new("east", 1, east.iter().map(Backend::address));
        let secondary = Region { priority: 1, ..Region::new("west", 1, west.iter().map(Backend::address)) };
        let state = DesiredState {
            health_policy: HealthPolicy::HealthChecks,
            ..DesiredState::from_regions(self.desired_state.listen, [primary, secondary])
        };
        self.publish_and_wait(&state).await?;
        self.publish_healthy_backends(scope)?;
        let clients = self.data_plane_clients()?;

        for serving in [4, 3, 2, 1, 0, 4] {
            for (number, backend) in east.iter().enumerate() {
                backend.set_healthy(number < serving).await;
            }
            for client in &clients {
                match client.plane {
                    DataPlane::Envoy => self.check_spillover(recorder, client, serving).await?,
                    DataPlane::Proxyless => {
                        check_proxyless_failover(recorder, client, &east[..serving], &west).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Keeps telling proxyless clients whom they shall call, by what the backends say of their health.
    fn publish_healthy_backends(&self, scope: &Lifecycle) -> anyhow::Result<()> {
        let cache = Arc::clone(self.control_plane()?.cache());
        let state = self.desired_state.clone();
        let all = state.regions.iter().flat_map(|region| &region.backends);
        let watching =
            health::watch(all.map(|one| one.address).collect(), HEALTH_POLL_INTERVAL, move |health| {
                let current = health
                    .iter()
                    .fold(state.clone(), |state, (at, healthy)| state.with_health(*at, *healthy));
                match current.snapshot(DataPlane::Proxyless) {
                    Ok(snapshot) => drop(cache.set(DataPlane::Proxyless.name(), snapshot)),
                    Err(error) => tracing::error!(%error, "not published"),
                }
            });
        scope.spawn(scope.token().run_until_cancelled_owned(watching));
        Ok(())
    }

    /// Envoy checks health itself, and spills over in the proportion that its documentation gives.
    async fn check_spillover(
        &self,
        recorder: &mut Recorder,
        client: &DataPlaneClient,
        serving: usize,
    ) -> anyhow::Result<()> {
        self.wait_for_healthy_count(serving).await?;
        // The worker has taken up what the main thread has just told after one more call.
        client.caller.call().await;
        let primary_share = (OVERPROVISIONING_FACTOR * serving as f64 / BACKENDS as f64).min(1.0);
        let mut seen = client.measure().await;
        seen.shares = by_region(&seen.shares);
        let fit = seen.shares.fit([("east", primary_share), ("west", 1.0 - primary_share)]);
        let percent = (primary_share * 100.0).round();
        shares_fit(
            recorder,
            &claim_id("spillover", serving, recorder),
            &format!("Envoy, {serving} of {BACKENDS} healthy in east: {percent} % of the calls stay there"),
            &format!("{percent}/{} %", 100.0 - percent),
            &seen,
            fit,
        );
        Ok(())
    }

    async fn wait_for_healthy_count(&self, serving: usize) -> anyhow::Result<()> {
        let Some(sidecar) = &self.envoy else { return Ok(()) };
        let what = format!("Envoy to see {serving} healthy backends in east");
        poll::wait_until(&what, Duration::from_millis(10), LIMIT, || async {
            let clusters = sidecar.envoy.admin().clusters().await.map_err(|error| error.to_string())?;
            let hosts = clusters.iter().filter(|cluster| cluster.name == CLUSTER).flat_map(|one| &one.hosts);
            let healthy_count = |priority: u32| {
                hosts
                    .clone()
                    .filter(|host| host.priority == priority)
                    .filter(|host| host.health.is_healthy() && !host.health.pending_active_hc)
                    .count()
            };
            let (east, west) = (healthy_count(0), healthy_count(1));
            if (east, west) == (serving, BACKENDS) { Ok(()) } else { Err(format!("{east} and {west}")) }
        })
        .await?;
        Ok(())
    }
}

fn claim_id(claim: &str, serving: usize, recorder: &Recorder) -> String {
    let id = format!("{claim}-{serving}-of-{BACKENDS}");
    // The last look is at a region that is whole again.
    if recorder.has_claim(&id) { format!("{claim}-recovered") } else { id }
}

/// The proxyless client is told only whom it shall call: the healthy ones of the first region that has any.
async fn check_proxyless_failover(
    recorder: &mut Recorder,
    client: &DataPlaneClient,
    serving: &[Backend],
    west: &[Backend],
) -> anyhow::Result<()> {
    let active = if serving.is_empty() { west } else { serving };
    client.wait_for_backends(active).await?;
    let seen = client.measure().await;
    let expected: u64 = active.iter().map(|backend| seen.shares.of(backend.name())).sum();
    let id = claim_id("failover", serving.len(), recorder);
    let expected_backends = if serving.is_empty() { "west" } else { "the healthy ones of east" };
    recorder.claim(
        &id,
        &format!(
            "Proxyless, {} of {BACKENDS} healthy in east: only {expected_backends} are called",
            serving.len()
        ),
        format!("all of {CALLS} calls"),
        format!("{}; {}", seen.shares, failures(&seen)),
        expected == CALLS as u64,
    );
    Ok(())
}
