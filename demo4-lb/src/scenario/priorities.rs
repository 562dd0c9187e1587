//! A region falls ill backend by backend: how calls spill over to the next, fail over, and return.

use std::sync::Arc;
use std::time::Duration;

use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;

use super::claims::{by_region, failures, shares_fit};
use super::lane::Lane;
use super::limits::{CALLS, LIMIT};
use super::mesh::{Mesh, backends};
use crate::backend::Backend;
use crate::health;
use crate::topology::{CLUSTER, Care, DataPlane, Region, World};

/// Backends in each of the two regions.
const BACKENDS: usize = 4;

/// Envoy takes a priority for healthy as long as this times its share of healthy backends is at least 1.
///
/// Source: ["Priority levels"](https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/load_balancing/priority).
const OVERPROVISIONING: f64 = 1.4;

/// How often the control plane asks backends for their health.
const ASK_EVERY: Duration = Duration::from_millis(100);

impl Mesh {
    /// East has the higher priority and loses its backends one by one.
    pub(super) async fn priorities(&mut self, story: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let east = backends("east", BACKENDS, scope).await?;
        let west = backends("west", BACKENDS, scope).await?;
        let near = Region::new("east", 1, east.iter().map(Backend::address));
        let far = Region { priority: 1, ..Region::new("west", 1, west.iter().map(Backend::address)) };
        let world = World { care: Care::HealthChecks, ..World::of(self.world.listen, [near, far]) };
        self.show(&world).await?;
        self.follow_health(scope)?;
        let lanes = self.lanes()?;

        for serving in [4, 3, 2, 1, 0, 4] {
            for (number, backend) in east.iter().enumerate() {
                backend.set_healthy(number < serving).await;
            }
            for lane in &lanes {
                match lane.plane {
                    DataPlane::Envoy => self.spills_over(story, lane, serving).await?,
                    DataPlane::Proxyless => follows(story, lane, &east[..serving], &west).await?,
                }
            }
        }
        Ok(())
    }

    /// Keeps telling proxyless clients whom they shall call, by what the backends say of their health.
    fn follow_health(&self, scope: &Lifecycle) -> anyhow::Result<()> {
        let cache = Arc::clone(self.control_plane()?.cache());
        let world = self.world.clone();
        let all = world.regions.iter().flat_map(|region| &region.backends);
        let following = health::follow(all.map(|one| one.address).collect(), ASK_EVERY, move |health| {
            let now =
                health.iter().fold(world.clone(), |world, (at, healthy)| world.with_health(*at, *healthy));
            match now.snapshot(DataPlane::Proxyless) {
                Ok(snapshot) => drop(cache.set(DataPlane::Proxyless.name(), snapshot)),
                Err(error) => tracing::error!(%error, "not published"),
            }
        });
        scope.spawn(scope.token().run_until_cancelled_owned(following));
        Ok(())
    }

    /// Envoy checks health itself, and spills over in the proportion that its documentation gives.
    async fn spills_over(&self, story: &mut Recorder, lane: &Lane, serving: usize) -> anyhow::Result<()> {
        self.envoy_counts_healthy(serving).await?;
        // The worker has taken up what the main thread has just told after one more call.
        lane.caller.call().await;
        let stays = (OVERPROVISIONING * serving as f64 / BACKENDS as f64).min(1.0);
        let mut seen = lane.measured().await;
        seen.shares = by_region(&seen.shares);
        let fit = seen.shares.fit([("east", stays), ("west", 1.0 - stays)]);
        let percent = (stays * 100.0).round();
        shares_fit(
            story,
            &id_of("spill", serving, story),
            &format!("Envoy, {serving} of {BACKENDS} healthy in east: {percent} % of the calls stay there"),
            &format!("{percent}/{} %", 100.0 - percent),
            &seen,
            fit,
        );
        Ok(())
    }

    async fn envoy_counts_healthy(&self, serving: usize) -> anyhow::Result<()> {
        let Some(sidecar) = &self.envoy else { return Ok(()) };
        let what = format!("Envoy to see {serving} healthy backends in east");
        poll::wait_until(&what, Duration::from_millis(10), LIMIT, || async {
            let clusters = sidecar.envoy.admin().clusters().await.map_err(|error| error.to_string())?;
            let hosts = clusters.iter().filter(|cluster| cluster.name == CLUSTER).flat_map(|one| &one.hosts);
            let well = |priority: u32| {
                hosts
                    .clone()
                    .filter(|host| host.priority == priority)
                    .filter(|host| host.health.is_healthy() && !host.health.pending_active_hc)
                    .count()
            };
            let (east, west) = (well(0), well(1));
            if (east, west) == (serving, BACKENDS) { Ok(()) } else { Err(format!("{east} and {west}")) }
        })
        .await?;
        Ok(())
    }
}

fn id_of(claim: &str, serving: usize, story: &Recorder) -> String {
    let id = format!("{claim}-{serving}-of-{BACKENDS}");
    // The last look is at a region that is whole again.
    if story.has_claim(&id) { format!("{claim}-healed") } else { id }
}

/// The proxyless client is told only whom it shall call: the healthy ones of the first region that has any.
async fn follows(
    story: &mut Recorder,
    lane: &Lane,
    serving: &[Backend],
    west: &[Backend],
) -> anyhow::Result<()> {
    let active = if serving.is_empty() { west } else { serving };
    lane.reach(active).await?;
    let seen = lane.measured().await;
    let expected: u64 = active.iter().map(|backend| seen.shares.of(backend.name())).sum();
    let id = id_of("follow", serving.len(), story);
    let place = if serving.is_empty() { "west" } else { "the healthy ones of east" };
    story.claim(
        &id,
        &format!("Proxyless, {} of {BACKENDS} healthy in east: only {place} are called", serving.len()),
        format!("all of {CALLS} calls"),
        format!("{}; {}", seen.shares, failures(&seen)),
        expected == CALLS as u64,
    );
    Ok(())
}
