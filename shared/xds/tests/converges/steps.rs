//! Random steps: topologies, requests, answers, and how a client rejects. What a client does at a step is in `model.rs`.

use mesh_xds::ResourceType::{self, Cluster, Endpoints, Listener, Route, Secret};
use mesh_xds::XdsVariant;
use proptest::prelude::*;

use super::topology::Topology;

/// Clients refuse what has this edition.
pub(crate) const BAD: u32 = 9;

/// What may happen.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Publish(Topology),
    /// Publishes while the stream is too busy to notice; the next publication comes with a gap.
    PublishUnnoticed(Topology),
    /// The client reads and answers this many responses.
    Answer(usize),
    /// The client asks for these names of a type (free clients), or of secrets (Envoy).
    Ask(usize, Vec<&'static str>),
    /// The client repeats an answer that it gave already.
    Repeat(usize),
    GiveUpWaiting,
    Reconnect,
    /// Nothing new happens until all is answered.
    Settle,
}

/// How a client refuses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// It keeps the valid resources of the response, like gRPC.
    KeepsTheRest,
    /// It keeps nothing of the response.
    KeepsNothing,
}

const CLUSTERS: [&str; 4] = ["c0", "c1", "c2", "c3"];
const ROUTES: [&str; 3] = ["r0", "r1", "r2"];
const LISTENERS: [&str; 3] = ["l0", "l1", "l2"];
const SECRETS: [&str; 2] = ["s0", "s1"];

pub(crate) fn names_of(kind: ResourceType) -> &'static [&'static str] {
    match kind {
        Cluster | Endpoints => &CLUSTERS,
        Secret => &SECRETS,
        Listener => &LISTENERS,
        Route => &ROUTES,
        other => unreachable!("{other} has no test resources"),
    }
}

fn edition() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![3 => Just(None), 8 => (1..=3u32).prop_map(Some), 1 => Just(Some(BAD))]
}

/// A topology in which everything that is referred to exists.
pub(crate) fn topologies() -> impl Strategy<Value = Topology> {
    let clusters = prop::array::uniform4((edition(), 1..=2u32));
    let routes = prop::array::uniform3((edition(), 0..16usize));
    let listeners = prop::array::uniform3((edition(), 0..3usize));
    let secrets = prop::array::uniform2(edition());
    (clusters, routes, listeners, secrets).prop_map(|(clusters, routes, listeners, secrets)| {
        let mut topology = Topology::default();
        for (name, (edition, endpoints)) in CLUSTERS.iter().zip(clusters) {
            if let Some(edition) = edition {
                topology = topology.cluster(name, edition).endpoints(name, endpoints);
            }
        }
        for (name, (edition, leads_to)) in ROUTES.iter().zip(routes) {
            let chosen = CLUSTERS.iter().enumerate().filter(|(at, _)| leads_to & (1 << at) != 0);
            let there: Vec<_> = chosen
                .map(|(_, cluster)| *cluster)
                .filter(|one| topology.clusters.contains_key(*one))
                .collect();
            if let Some(edition) = edition {
                topology = topology.route(name, edition, &there);
            }
        }
        for (name, (edition, route)) in LISTENERS.iter().zip(listeners) {
            if let Some(edition) = edition.filter(|_| topology.routes.contains_key(ROUTES[route])) {
                topology = topology.listener(name, edition, ROUTES[route]);
            }
        }
        for (name, edition) in SECRETS.iter().zip(secrets) {
            if let Some(edition) = edition {
                topology = topology.secret(name, edition);
            }
        }
        topology
    })
}

/// What a client does.
pub(crate) fn client_steps() -> impl Strategy<Value = Step> {
    let names =
        prop::sample::subsequence(vec!["*", "c0", "c1", "c2", "l0", "l1", "r0", "r1", "s0", "s1"], 0..6);
    prop_oneof![
        10 => (1..4usize).prop_map(Step::Answer),
        4 => (0..5usize, names).prop_map(|(kind, names)| Step::Ask(kind, names)),
        2 => (0..5usize).prop_map(Step::Repeat),
        1 => Just(Step::GiveUpWaiting),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Settle),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => topologies().prop_map(Step::Publish),
        1 => topologies().prop_map(Step::PublishUnnoticed),
        20 => client_steps(),
    ];
    prop::collection::vec(step, 1..40)
}

pub(crate) fn manners() -> impl Strategy<Value = Manner> {
    prop_oneof![Just(Manner::KeepsTheRest), Just(Manner::KeepsNothing)]
}

pub(crate) fn variants() -> impl Strategy<Value = XdsVariant> {
    prop_oneof![Just(XdsVariant::Sotw), Just(XdsVariant::Delta)]
}
