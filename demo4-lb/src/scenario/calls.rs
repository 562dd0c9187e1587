//! Calls over equal backends: who answers, by all four kinds of call, and what each client holds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use mesh_xds::ResourceType;
use mesh_xds::control_plane::is_response;
use shared::envoy::admin::ResourceKind;
use shared::lifecycle::Lifecycle;
use shared::report::Recorder;

use super::claims::shares_fit;
use super::client::DataPlaneClient;
use super::limits::CALLS;
use super::mesh::{Mesh, start_backends};
use crate::backend::Backend;
use crate::caller::{Kind, NODE_ID_PREFIX, Replies};
use crate::topology::{CLUSTER, DataPlane, DesiredState, LISTENER};

/// Messages on the side of a call that streams.
const MESSAGES: u32 = 20;

impl Mesh {
    /// Calls are spread evenly whoever picks; Envoy's own counters agree with what the client saw.
    pub(super) async fn calls(&mut self, recorder: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let backends = start_backends("backend", 3, scope).await?;
        self.publish_and_wait(&DesiredState::new(
            self.desired_state.listen,
            backends.iter().map(Backend::address),
        ))
        .await?;
        for client in self.data_plane_clients()? {
            client.wait_for_backends(&backends).await?;
            let before = self.envoy_request_count().await?;
            let seen = client.measure().await;
            let after = self.envoy_request_count().await?;
            recorder.note(format!("{}: {CALLS} calls, 8 at a time: {}", client.name(), seen.latencies));
            let fit = seen.shares.fit_evenly(backends.iter().map(Backend::name));
            let claim = format!("Three backends get equal shares ({})", client.name());
            shares_fit(recorder, &client.id("even-shares"), &claim, "a third each", &seen, fit);
            if client.plane == DataPlane::Envoy {
                recorder.claim(
                    "envoy-stats-match",
                    "Envoy counted the same calls",
                    format!("{CALLS} requests to {CLUSTER}"),
                    format!("{} more in its statistics", after - before),
                    after - before == CALLS as u64,
                );
            }
            check_call_kinds(recorder, &client).await;
        }
        if self.envoy.is_some() {
            self.check_xds_response_order(recorder)?;
            self.check_envoy_config(recorder).await?;
        }
        if self.plan.planes.has(DataPlane::Proxyless) {
            self.check_proxyless_acks(recorder)?;
        }
        Ok(())
    }

    /// Requests to the backends that Envoy's statistics count; 0 without an Envoy.
    async fn envoy_request_count(&self) -> anyhow::Result<u64> {
        let Some(sidecar) = &self.envoy else { return Ok(0) };
        let name = format!("cluster.{CLUSTER}.upstream_rq_total");
        let stats = sidecar.envoy.admin().stats(&format!("^{}$", name.replace('.', "\\."))).await?;
        stats.get(&name).copied().with_context(|| format!("Envoy has no statistic {name}"))
    }

    /// Checks the order in which the resource types were first sent.
    fn check_xds_response_order(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let events = self.control_plane()?.event_log().events();
        let first = |kind| events.iter().position(|event| is_response(event, kind));
        let mut order: Vec<_> =
            ResourceType::ALL.into_iter().filter_map(|kind| Some((first(kind)?, kind.service()))).collect();
        order.sort_unstable();
        let order: Vec<&str> = order.into_iter().map(|(_, service)| service).collect();
        recorder.claim(
            "xds-response-order",
            "Envoy was told everything by xDS, clusters first",
            "CDS, EDS, LDS, RDS",
            order.join(", "),
            order == ["CDS", "EDS", "LDS", "RDS"],
        );
        Ok(())
    }

    /// Envoy's configuration dump has what the control plane shows, in the same versions. Of endpoints Envoy tells no
    /// version; so their addresses are compared.
    async fn check_envoy_config(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let sidecar = self.envoy.as_ref().context("this run has no Envoy")?;
        let snapshot = self.desired_state.snapshot(DataPlane::Envoy)?;
        let endpoints = self.desired_state.regions.iter().flat_map(|region| &region.backends);
        let mut published: BTreeSet<String> = snapshot
            .resources()
            .filter(|one| one.kind() != ResourceType::Endpoints)
            .map(|one| format!("{} {} {}", one.kind().service(), one.name(), one.version()))
            .collect();
        published.extend(endpoints.map(|endpoint| format!("EDS {CLUSTER} {}", endpoint.address)));
        let admin = sidecar.envoy.admin();
        let resources = admin.dynamic_resources().await?.into_iter().filter(|one| one.refused.is_none());
        let mut actual: BTreeSet<String> = resources
            .filter(|one| one.kind != ResourceKind::Endpoints)
            .map(|one| format!("{} {} {}", service(one.kind), one.name, one.version))
            .collect();
        for cluster in admin.clusters().await?.iter().filter(|cluster| cluster.added_via_api) {
            actual.extend(cluster.hosts.iter().map(|host| format!("EDS {} {}", cluster.name, host.address)));
        }
        claim_equal(
            recorder,
            "envoy-config-matches",
            "Envoy holds what was published, in the same versions, and nothing else",
            &published,
            &actual,
        );
        Ok(())
    }

    /// No proxyless client can be asked what it holds; what it accepted is what it said to the control plane.
    fn check_proxyless_acks(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let snapshot = self.desired_state.snapshot(DataPlane::Proxyless)?;
        let published = ResourceType::ALL.into_iter().filter(|kind| !snapshot.of(*kind).is_empty());
        let published: BTreeSet<String> = published
            .map(|kind| format!("{} accepted {}", kind.service(), snapshot.of(kind).version()))
            .collect();
        let clients = self.control_plane()?.event_log().clients();
        let proxyless = clients.into_iter().filter(|client| client.node.starts_with(NODE_ID_PREFIX));
        let accepted: BTreeSet<String> = proxyless
            .flat_map(|client| client.types)
            .map(|(service, last)| format!("{service} {last}"))
            .collect();
        claim_equal(
            recorder,
            "proxyless-acks-match",
            "The proxyless client accepted what was published, and nothing else",
            &published,
            &accepted,
        );
        Ok(())
    }
}

/// Claims that the two sets are equal and not empty.
fn claim_equal(
    recorder: &mut Recorder,
    id: &str,
    claim: &str,
    published: &BTreeSet<String>,
    actual: &BTreeSet<String>,
) {
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    recorder.claim(id, claim, list(published), list(actual), actual == published && !published.is_empty());
}

fn service(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Secret => ResourceType::Secret.service(),
        ResourceKind::Cluster => ResourceType::Cluster.service(),
        ResourceKind::Endpoints => ResourceType::Endpoints.service(),
        ResourceKind::Listener => ResourceType::Listener.service(),
        ResourceKind::Route => ResourceType::Route.service(),
    }
}

/// All four kinds of call pass, each whole and in order, and each call has one backend.
async fn check_call_kinds(recorder: &mut Recorder, client: &DataPlaneClient) {
    let mut outcomes = BTreeMap::new();
    let mut all_correct = true;
    for kind in Kind::ALL {
        let outcome = match client.caller.call_kind(kind, MESSAGES).await {
            Ok(Replies { texts, backends }) if texts == kind.expected(MESSAGES) && backends.len() == 1 => {
                format!("{} replies", texts.len())
            }
            Ok(other) => {
                all_correct = false;
                format!("{} replies by {:?}", other.texts.len(), other.backends)
            }
            Err(status) => {
                all_correct = false;
                format!("{:?}: {}", status.code(), status.message())
            }
        };
        outcomes.insert(kind.method(), outcome);
    }
    let outcomes: Vec<String> =
        outcomes.into_iter().map(|(method, outcome)| format!("{method} {outcome}")).collect();
    recorder.claim(
        &client.id("call-kinds"),
        &format!("All four kinds of call reach {LISTENER}, each call one backend ({})", client.name()),
        format!("Say and Collect 1 reply, Repeat and Chat {MESSAGES}, in order"),
        outcomes.join(", "),
        all_correct,
    );
}
