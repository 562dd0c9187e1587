//! Calls over equal backends: who answers, by all four kinds of call, and what each client holds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use shared::envoy::admin::Kind as Dump;
use shared::lifecycle::Lifecycle;
use shared::report::Story;
use shared::xds::ResourceType;
use shared::xds::plane::is_sent;

use super::CALLS;
use super::claims::shares_fit;
use super::lane::Lane;
use super::mesh::{Mesh, backends};
use crate::backend::Backend;
use crate::caller::{Kind, Stream};
use crate::topology::{CLUSTER, DataPlane, LISTENER, World};

/// Messages on the side of a call that streams.
const MESSAGES: u32 = 20;

impl Mesh {
    /// Calls are spread evenly whoever picks; Envoy's own counters agree with what the client saw.
    pub(super) async fn calls(&mut self, story: &mut Story, scope: &Lifecycle) -> anyhow::Result<()> {
        let backends = backends("backend", 3, scope).await?;
        self.show(&World::new(self.world.listen, backends.iter().map(Backend::address))).await?;
        for lane in self.lanes()? {
            lane.reach(&backends).await?;
            let before = self.counted_by_envoy().await?;
            let seen = lane.measured().await;
            let after = self.counted_by_envoy().await?;
            story.tell(format!("{}: {CALLS} calls, 8 at a time: {}", lane.name(), seen.latencies));
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
    fn told_in_order(&self, story: &mut Story) -> anyhow::Result<()> {
        let events = self.control_plane()?.dialogue().events();
        let first = |kind| events.iter().position(|event| is_sent(event, kind));
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

    /// Envoy's configuration dump names what the control plane shows, and the versions are the same.
    async fn holds_what_was_published(&self, story: &mut Story) -> anyhow::Result<()> {
        let sidecar = self.envoy.as_ref().context("this run has no Envoy")?;
        let snapshot = self.world.snapshot(DataPlane::Envoy)?;
        let published = ResourceType::ALL.into_iter().flat_map(|kind| {
            let names = snapshot.of(kind).iter().map(|one| one.name().to_string());
            names.map(move |name| (kind.service(), name)).collect::<Vec<_>>()
        });
        let published: BTreeSet<_> = published.collect();
        let held: BTreeSet<_> = sidecar
            .envoy
            .admin()
            .dynamic()
            .await?
            .into_iter()
            .filter(|one| one.refused.is_none())
            .map(|one| (service(one.kind), one.name))
            .collect();
        let list = |set: &BTreeSet<(&str, String)>| {
            let names = set.iter().map(|(kind, name)| format!("{kind} {name}"));
            names.collect::<Vec<_>>().join(", ")
        };
        story.claim(
            "holds-what-was-published",
            "Envoy holds what was published, and nothing else",
            list(&published),
            list(&held),
            held == published,
        );
        Ok(())
    }
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
async fn four_kinds(story: &mut Story, lane: &Lane) {
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
