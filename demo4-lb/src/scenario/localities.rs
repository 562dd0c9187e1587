//! Three regions by weight: what each client makes of locality weights, and the split that holds everywhere.

use shared::lifecycle::Lifecycle;
use shared::report::Recorder;

use super::claims::{by_region, shares_fit};
use super::mesh::{Mesh, start_backends};
use crate::backend::Backend;
use crate::topology::{DataPlane, DesiredState, Region, Split};

/// The regions and what each is to get, in per cent.
const WEIGHTS: [(&str, u32); 3] = [("east", 70), ("west", 20), ("south", 10)];

/// Enough that 70/20/10 cannot be mistaken for a third each, nor the other way round.
const CALLS: usize = 500;

impl Mesh {
    /// The same world told by locality weights (EDS), and by one cluster a region (RDS).
    pub(super) async fn localities(
        &mut self,
        recorder: &mut Recorder,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let mut all = Vec::new();
        let mut regions = Vec::new();
        for (name, weight) in WEIGHTS {
            let here = start_backends(name, 2, scope).await?;
            regions.push(Region::new(name, weight, here.iter().map(Backend::address)));
            all.extend(here);
        }
        let weights = || WEIGHTS.map(|(name, weight)| (name, f64::from(weight)));
        let native = DesiredState::from_regions(self.desired_state.listen, regions);
        for split in [Split::Localities, Split::Routes] {
            self.publish_and_wait(&DesiredState { split, ..native.clone() }).await?;
            recorder.note(match split {
                Split::Localities => "told by locality weights in one cluster (EDS):",
                Split::Routes => "told by one cluster a region and weights in the route (RDS):",
            });
            for client in self.data_plane_clients()? {
                client.wait_for_backends(&all).await?;
                let mut seen = client.measure_calls(CALLS).await;
                let alike = seen.shares.fit_evenly(all.iter().map(Backend::name));
                seen.shares = by_region(&seen.shares);
                let fit = seen.shares.fit(weights());
                match (split, client.plane) {
                    (Split::Localities, DataPlane::Proxyless) => recorder.claim(
                        "locality-weights-proxyless",
                        "A limit of this client: tonic-xds does not heed locality weights",
                        format!(
                            "each backend alike, chi² at most {:.2}; not 70/20/10, chi² over {:.2}; of {} calls",
                            alike.bound, fit.bound, fit.n
                        ),
                        format!("{}; chi² {:.2} and {:.2}", seen.shares, alike.statistic, fit.statistic),
                        alike.holds() && !fit.holds() && seen.failed() == 0,
                    ),
                    (Split::Localities, DataPlane::Envoy) => shares_fit(
                        recorder,
                        "locality-weights-envoy",
                        "Envoy splits calls by locality weights",
                        "70/20/10 %",
                        &seen,
                        fit,
                    ),
                    (Split::Routes, _) => shares_fit(
                        recorder,
                        &client.id("route-weights"),
                        &format!("Weights in the route hold for every client ({})", client.name()),
                        "70/20/10 %",
                        &seen,
                        fit,
                    ),
                }
            }
        }
        Ok(())
    }
}
