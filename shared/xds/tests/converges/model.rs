//! A client that keeps to the protocol and nothing more: what it asks, how it answers, how it refuses.
//!
//! Does not know what it should end up with: that is in `checks.rs`.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterMessage;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use mesh_xds::Resource;
use mesh_xds::ResourceType::{self, Cluster, Endpoints, Listener, Route, Secret};
use mesh_xds::XdsVariant;
use mesh_xds::publication::Publication;
use prost::Message as _;

use super::checks::cleaned;
use super::client::{self, Client, Received};
use super::steps::{BAD, Manner, Step, names_of};
use super::topology::{self, Topology};

/// State of the world: a client that kept a part of a response, or dropped a part of what it had, has no
/// version for what it holds. One that reconnects with the last version that it accepted all the same
/// cannot be helped, for no server can know.
const PARTIAL: &str = "a part of something";

/// Whether a client refuses this resource: by its edition, wherever that stands in it.
fn is_bad(kind: ResourceType, got: &client::Item, bad_values: &[Vec<u8>]) -> bool {
    match kind {
        Cluster => {
            let message = ClusterMessage::decode(&*got.any.value).unwrap();
            message.connect_timeout.is_some_and(|timeout| timeout.seconds == i64::from(BAD))
        }
        Endpoints => ClusterLoadAssignment::decode(&*got.any.value).is_err(),
        _ => bad_values.contains(&got.any.value),
    }
}

pub(crate) struct Model {
    pub(crate) client: Client,
    /// Whether it asks like Envoy: everything first, then what that refers to.
    pub(crate) envoy: bool,
    /// None: it accepts everything.
    manner: Option<Manner>,
    /// Responses on their way.
    queue: VecDeque<Received>,
    pub(crate) topology: Topology,
    /// The encoded listeners, routes and secrets of the topologies so far that have the bad edition.
    bad: Vec<Vec<u8>>,
    /// Clusters that were in a response that it refused: it may lack them by its own choice.
    pub(crate) spoiled: BTreeSet<String>,
    /// Since a reconnect the server does not know what it holds, so order cannot be promised.
    pub(crate) shaky: bool,
}

impl Model {
    pub(crate) fn new(variant: XdsVariant, envoy: bool, manner: Manner) -> Self {
        let mut model = Self::unconnected(variant, Some(manner));
        model.envoy = envoy;
        if envoy {
            model.connect();
        }
        model
    }

    /// A client like Envoy that has not sent a request yet.
    pub(crate) fn unconnected(variant: XdsVariant, manner: Option<Manner>) -> Self {
        Self {
            client: Client::new(variant),
            envoy: true,
            manner,
            queue: VecDeque::new(),
            topology: Topology::default(),
            bad: Vec::new(),
            spoiled: BTreeSet::new(),
            shaky: false,
        }
    }

    /// Sends the first requests.
    pub(crate) fn connect(&mut self) {
        for kind in [Cluster, Listener] {
            let got = self.client.subscribe(kind, &[]);
            self.queue.extend(got);
        }
    }

    /// Whether it has not connected yet.
    pub(crate) fn is_new(&self) -> bool {
        !self.client.types[Cluster].begun
    }

    pub(crate) fn on_publication(&mut self, publication: Arc<Publication>) {
        let got = self.client.on_publication(publication);
        self.queue.extend(got);
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Publish(topology) => self.publish(topology),
            Step::PublishUnnoticed(topology) => {
                self.learn_bad(&topology);
                self.client.publish_unnoticed(&topology);
            }
            Step::Answer(count) => (0..count).for_each(|_| self.answer()),
            Step::Settle => self.ack_all(),
            Step::Ask(kind, names) => {
                let kind = if self.envoy { Secret } else { ResourceType::ALL[kind] };
                let known = |name: &&str| *name == "*" && !self.envoy || names_of(kind).contains(name);
                let names: Vec<_> = names.into_iter().filter(known).collect();
                self.subscribe(kind, &names);
            }
            Step::Repeat(kind) => self.repeat(ResourceType::ALL[kind]),
            Step::GiveUpWaiting => {
                self.client.stream.stop_awaiting_eds();
                let got = self.client.receive_pushes();
                self.queue.extend(got);
            }
            Step::Reconnect => {
                self.queue.clear();
                self.shaky = true;
                self.client.reconnect();
                for kind in ResourceType::ALL {
                    if self.client.types[kind].begun {
                        let got = self.client.resume(kind);
                        self.queue.extend(got);
                    }
                }
            }
        }
    }

    pub(crate) fn learn_bad(&mut self, topology: &Topology) {
        let bad = |edition: &u32| *edition == BAD;
        let listeners = topology.listeners.iter().filter(|(_, (edition, _))| bad(edition));
        let listeners = listeners.map(|(name, (edition, route))| topology::listener(name, *edition, route));
        let routes = topology.routes.iter().filter(|(_, (edition, _))| bad(edition));
        let routes = routes.map(|(name, (edition, clusters))| topology::route(name, *edition, clusters));
        let secrets = topology.secrets.iter().filter(|(_, edition)| bad(edition));
        let secrets = secrets.map(|(name, edition)| topology::secret(name, *edition));
        let all: Vec<Resource> = listeners.chain(routes).chain(secrets).collect();
        self.bad.extend(all.iter().map(|one| topology::any_of(one).value));
    }

    pub(crate) fn publish(&mut self, topology: Topology) {
        self.learn_bad(&topology);
        self.topology = topology;
        let got = self.client.publish(&self.topology);
        self.queue.extend(got);
    }

    fn subscribe(&mut self, kind: ResourceType, names: &[&str]) {
        if names.is_empty() && !self.client.types[kind].begun {
            return;
        }
        let side = &mut self.client.types[kind];
        if side.held.keys().any(|name| !names.contains(&name.as_str())) {
            side.version = PARTIAL.to_owned();
        }
        let got = self.client.subscribe(kind, names);
        self.queue.extend(got);
    }

    /// An answer that was given already, as Envoy gives it when it warms a changed cluster.
    fn repeat(&mut self, kind: ResourceType) {
        let side = &self.client.types[kind];
        if side.nonce.is_empty() || !side.begun {
            return;
        }
        let nonce = side.nonce.clone();
        let got = if self.client.is_sotw() {
            self.client.request_sotw(kind, |_| {})
        } else {
            self.client.request_delta(kind, |request| request.response_nonce = nonce)
        };
        self.queue.extend(got);
    }

    /// Reads one response and answers it.
    fn answer(&mut self) {
        let Some(got) = self.queue.pop_front() else { return };
        let rejects = self.manner.is_some();
        let is_bad = |item: &&client::Item| rejects && is_bad(got.kind, item, &self.bad);
        let bad: Vec<String> = got.items.iter().filter(is_bad).map(|item| item.name.clone()).collect();
        if bad.is_empty() {
            self.client.apply_all(&got);
            if got.kind == Cluster {
                for item in &got.items {
                    self.spoiled.remove(&item.name);
                }
            }
            self.follow(got.kind);
            let more = self.client.ack(&got);
            self.queue.extend(more);
            let side = &mut self.client.types[got.kind];
            if got.items.iter().any(|item| !side.held.contains_key(&item.name)) {
                side.version = PARTIAL.to_owned();
            }
        } else {
            self.refuse(&got, &bad);
        }
        self.check_routes();
    }

    fn refuse(&mut self, got: &Received, bad: &[String]) {
        let names: Vec<&str> = bad.iter().map(String::as_str).collect();
        if got.kind == Cluster {
            let all = got.items.iter().map(|item| item.name.clone());
            self.spoiled.extend(all);
        }
        let more = match self.manner {
            Some(Manner::KeepsTheRest) => {
                self.client.apply_except(got, &names);
                self.client.types[got.kind].version = PARTIAL.to_owned();
                self.follow(got.kind);
                self.client.nack_names(got, &names)
            }
            _ => self.client.nack(got, "no"),
        };
        self.queue.extend(more);
    }

    /// Envoy asks for what the clusters and listeners that it took over need, before it answers.
    fn follow(&mut self, kind: ResourceType) {
        if !self.envoy {
            return;
        }
        if kind == Cluster {
            let names = self.client.types[Cluster].held.keys().cloned().collect();
            self.ask_if_changed(Endpoints, &names);
            self.repeat(Endpoints);
        }
        if kind == Listener {
            let held = self.client.types[Listener].held.values();
            let listeners = held.map(|(_, any)| Resource::from_any(any).unwrap());
            let routes = listeners.flat_map(|one| one.references().to_vec()).filter(|to| to.kind == Route);
            let names: BTreeSet<String> = routes.map(|to| to.name.to_string()).collect();
            self.ask_if_changed(Route, &names);
        }
    }

    fn ask_if_changed(&mut self, kind: ResourceType, names: &BTreeSet<String>) {
        if *names != self.client.types[kind].names {
            self.subscribe(kind, &names.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    /// Answers all until nothing more comes.
    pub(crate) fn ack_all(&mut self) {
        for _ in 0..1000 {
            if self.queue.is_empty() && self.client.stream.is_awaiting_eds() {
                // Clusters that it refused are not asked for; a server's clock ends the wait.
                self.step(Step::GiveUpWaiting);
            }
            if self.queue.is_empty() {
                // Once it has the whole topology, and refused nothing of it, all is known again.
                self.shaky &= cleaned(self.topology.clone()) != self.topology;
                return;
            }
            self.answer();
        }
        panic!("the server never comes to rest");
    }
}
