//! Calls over equal backends: who answers, by all four kinds of call, and what each client holds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use mesh_xds::ResourceType;
use mesh_xds::control_plane::is_response;
use shared::envoy::admin::ResourceKind as Dump;
use shared::lifecycle::Lifecycle;
use shared::report::Recorder;

use super::claims::shares_fit;
use super::lane::Lane;
use super::limits::CALLS;
use super::mesh::{Mesh, backends};
use crate::backend::Backend;
use crate::caller::{Kind, NODE, Stream};
use crate::topology::{CLUSTER, DataPlane, LISTENER, World};

/// Messages on the side of a call that streams.
const MESSAGES: u32 = 20;

impl Mesh {
    /// Calls are spread evenly whoever picks; Envoy's own counters agree with what the client saw.
    pub(super) async fn calls(&mut self, story: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let backends = backends("backend", 3, scope).await?;
        self.show(&World::new(self.world.listen, backends.iter().map(Backend::address))).await?;
        for lane in self.lanes()? {
            lane.reach(&backends).await?;
            let before = self.counted_by_envoy().await?;
            let seen = lane.measured().await;
            let after = self.counted_by_envoy().await?;
            story.note(format!("{}: {CALLS} calls, 8 at a time: {}", lane.name(), seen.latencies));
            let fit = seen.shares.fit_evenly(backends.iter().map(Backend::name));
            let claim = format!("Three backends get equal shares ({})", lane.name());
            shares_fit(story, &lane.id("even-shares"), &claim, "a third each", &seen, fit);
            if lane.plane == DataPlane::Envoy {
                story.claim(
                    "envoy-counts-too",
                    "Envoy counted the same calls",
                    format!("{CALLS} requests to {CLUSTER}"),
                    format!("{} more in its statistics", after - before),
                    after - before == CALLS as u64,
                );
            }
            four_kinds(story, &lane).await;
        }
        if self.envoy.is_some() {
            self.told_in_order(story)?;
            self.holds_what_was_published(story).await?;
        }
        if self.plan.planes.has(DataPlane::Proxyless) {
            self.accepted_what_was_published(story)?;
        }
        Ok(())
    }

    /// Requests to the backends that Envoy's statistics count; 0 without an Envoy.
    async fn counted_by_envoy(&self) -> anyhow::Result<u64> {
        let Some(sidecar) = &self.envoy else { return Ok(0) };
        let name = format!("cluster.{CLUSTER}.upstream_rq_total");
        let stats = sidecar.envoy.admin().stats(&format!("^{}$", name.replace('.', "\\."))).await?;
        stats.get(&name).copied().with_context(|| format!("Envoy has no statistic {name}"))
    }

    /// The types in the order in which each was first sent.
    fn told_in_order(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let events = self.control_plane()?.event_log().events();
        let first = |kind| events.iter().position(|event| is_response(event, kind));
        let mut order: Vec<_> =
            ResourceType::ALL.into_iter().filter_map(|kind| Some((first(kind)?, kind.service()))).collect();
        order.sort_unstable();
        let order: Vec<&str> = order.into_iter().map(|(_, service)| service).collect();
        story.claim(
            "told-in-order",
            "Envoy was told everything by xDS, clusters first",
            "CDS, EDS, LDS, RDS",
            order.join(", "),
            order == ["CDS", "EDS", "LDS", "RDS"],
        );
        Ok(())
    }

    /// Envoy's configuration dump has what the control plane shows, in the same versions. Of endpoints Envoy tells no
    /// version; so their addresses are compared.
    async fn holds_what_was_published(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let sidecar = self.envoy.as_ref().context("this run has no Envoy")?;
        let snapshot = self.world.snapshot(DataPlane::Envoy)?;
        let endpoints = self.world.regions.iter().flat_map(|region| &region.backends);
        let mut published: BTreeSet<String> = snapshot
            .resources()
            .filter(|one| one.kind() != ResourceType::Endpoints)
            .map(|one| format!("{} {} {}", one.kind().service(), one.name(), one.version()))
            .collect();
        published.extend(endpoints.map(|endpoint| format!("EDS {CLUSTER} {}", endpoint.address)));
        let admin = sidecar.envoy.admin();
        let told = admin.dynamic_resources().await?.into_iter().filter(|one| one.refused.is_none());
        let mut held: BTreeSet<String> = told
            .filter(|one| one.kind != Dump::Endpoints)
            .map(|one| format!("{} {} {}", service(one.kind), one.name, one.version))
            .collect();
        for cluster in admin.clusters().await?.iter().filter(|cluster| cluster.added_via_api) {
            held.extend(cluster.hosts.iter().map(|host| format!("EDS {} {}", cluster.name, host.address)));
        }
        claim_same(
            story,
            "holds-what-was-published",
            "Envoy holds what was published, in the same versions, and nothing else",
            &published,
            &held,
        );
        Ok(())
    }

    /// No proxyless client can be asked what it holds; what it accepted is what it said to the control plane.
    fn accepted_what_was_published(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let snapshot = self.world.snapshot(DataPlane::Proxyless)?;
        let shown = ResourceType::ALL.into_iter().filter(|kind| !snapshot.of(*kind).is_empty());
        let published: BTreeSet<String> = shown
            .map(|kind| format!("{} accepted {}", kind.service(), snapshot.of(kind).version()))
            .collect();
        let clients = self.control_plane()?.event_log().clients();
        let proxyless = clients.into_iter().filter(|client| client.node.starts_with(NODE));
        let accepted: BTreeSet<String> = proxyless
            .flat_map(|client| client.types)
            .map(|(service, last)| format!("{service} {last}"))
            .collect();
        claim_same(
            story,
            "accepted-what-was-published",
            "The proxyless client accepted what was published, and nothing else",
            &published,
            &accepted,
        );
        Ok(())
    }
}

/// What is there is what was published, and there is something.
fn claim_same(
    story: &mut Recorder,
    id: &str,
    claim: &str,
    published: &BTreeSet<String>,
    held: &BTreeSet<String>,
) {
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    story.claim(id, claim, list(published), list(held), held == published && !published.is_empty());
}

fn service(kind: Dump) -> &'static str {
    match kind {
        Dump::Secret => ResourceType::Secret.service(),
        Dump::Cluster => ResourceType::Cluster.service(),
        Dump::Endpoints => ResourceType::Endpoints.service(),
        Dump::Listener => ResourceType::Listener.service(),
        Dump::Route => ResourceType::Route.service(),
    }
}

/// All four kinds of call pass, each whole and in order, and each call has one backend.
async fn four_kinds(story: &mut Recorder, lane: &Lane) {
    let mut seen = BTreeMap::new();
    let mut well = true;
    for kind in Kind::ALL {
        let outcome = match lane.caller.stream(kind, MESSAGES).await {
            Ok(Stream { texts, backends }) if texts == kind.expected(MESSAGES) && backends.len() == 1 => {
                format!("{} replies", texts.len())
            }
            Ok(other) => {
                well = false;
                format!("{} replies by {:?}", other.texts.len(), other.backends)
            }
            Err(status) => {
                well = false;
                format!("{:?}: {}", status.code(), status.message())
            }
        };
        seen.insert(kind.method(), outcome);
    }
    let seen: Vec<String> = seen.into_iter().map(|(method, outcome)| format!("{method} {outcome}")).collect();
    story.claim(
        &lane.id("four-kinds"),
        &format!("All four kinds of call reach {LISTENER}, each call one backend ({})", lane.name()),
        format!("Say and Collect 1 reply, Repeat and Chat {MESSAGES}, in order"),
        seen.join(", "),
        well,
    );
}
