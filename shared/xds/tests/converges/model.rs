//! A client that keeps to the protocol and nothing more: what it asks, how it answers, how it refuses.
//!
//! Does not know what it should end up with: that is in `checks.rs`.

use std::collections::{BTreeSet, VecDeque};

use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterMessage;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use mesh_xds::Resource;
use mesh_xds::ResourceType::{self, Cluster, Endpoints, Listener, Route, Secret};
use mesh_xds::frame::Dialect;
use prost::Message as _;

use super::checks::cleaned;
use super::client::{self, Client, Got};
use super::steps::{BAD, Manner, Step, names_of};
use super::world::{self, World};

/// State of the world: a client that kept a part of a response, or dropped a part of what it had, has no
/// version for what it holds. One that reconnects with the last version that it accepted all the same
/// cannot be helped, for no server can know.
const PARTIAL: &str = "a part of something";

/// Whether a client refuses this resource: by its edition, wherever that stands in it.
fn is_bad(kind: ResourceType, got: &client::Item, world_of_bad: &[Vec<u8>]) -> bool {
    match kind {
        Cluster => {
            let message = ClusterMessage::decode(&*got.any.value).unwrap();
            message.connect_timeout.is_some_and(|timeout| timeout.seconds == i64::from(BAD))
        }
        Endpoints => ClusterLoadAssignment::decode(&*got.any.value).is_err(),
        _ => world_of_bad.contains(&got.any.value),
    }
}

pub(crate) struct Model {
    pub(crate) client: Client,
    /// Whether it asks like Envoy: everything first, then what that refers to.
    pub(crate) envoy: bool,
    manner: Manner,
    /// Responses on their way.
    queue: VecDeque<Got>,
    pub(crate) world: World,
    /// The encoded listeners, routes and secrets of the worlds so far that have the bad edition.
    bad: Vec<Vec<u8>>,
    /// Clusters that were in a response that it refused: it may lack them by its own choice.
    pub(crate) spoiled: BTreeSet<String>,
    /// Since a reconnect the server does not know what it holds, so order cannot be promised.
    pub(crate) shaky: bool,
    pub(crate) reconnected: bool,
}

impl Model {
    pub(crate) fn new(dialect: Dialect, envoy: bool, manner: Manner) -> Self {
        let mut client = Client::new(dialect);
        client.quarantines = true;
        let mut model = Self {
            client,
            envoy,
            manner,
            queue: VecDeque::new(),
            world: World::default(),
            bad: Vec::new(),
            spoiled: BTreeSet::new(),
            shaky: false,
            reconnected: false,
        };
        if envoy {
            for kind in [Cluster, Listener] {
                let got = model.client.ask(kind, &[]);
                model.queue.extend(got);
            }
        }
        model
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Publish(world) => self.publish(world),
            Step::PublishUnnoticed(world) => {
                self.learn_bad(&world);
                self.client.publish_unnoticed(&world);
            }
            Step::Answer(count) => (0..count).for_each(|_| self.answer()),
            Step::Settle => self.settle(),
            Step::Ask(kind, names) => {
                let kind = if self.envoy { Secret } else { ResourceType::ALL[kind] };
                let known = |name: &&str| *name == "*" && !self.envoy || names_of(kind).contains(name);
                let names: Vec<_> = names.into_iter().filter(known).collect();
                self.ask(kind, &names);
            }
            Step::Repeat(kind) => self.repeat(ResourceType::ALL[kind]),
            Step::GiveUpWaiting => {
                self.client.stream.give_up_waiting();
                let got = self.client.due();
                self.queue.extend(got);
            }
            Step::Reconnect => {
                self.queue.clear();
                (self.shaky, self.reconnected) = (true, true);
                self.client.reconnect();
                for kind in ResourceType::ALL {
                    if self.client.sides[kind].begun {
                        let got = self.client.resume(kind);
                        self.queue.extend(got);
                    }
                }
            }
        }
    }

    fn learn_bad(&mut self, world: &World) {
        let bad = |edition: &u32| *edition == BAD;
        let listeners = world.listeners.iter().filter(|(_, (edition, _))| bad(edition));
        let listeners = listeners.map(|(name, (edition, route))| world::listener(name, *edition, route));
        let routes = world.routes.iter().filter(|(_, (edition, _))| bad(edition));
        let routes = routes.map(|(name, (edition, clusters))| world::route(name, *edition, clusters));
        let secrets = world.secrets.iter().filter(|(_, edition)| bad(edition));
        let secrets = secrets.map(|(name, edition)| world::secret(name, *edition));
        let all: Vec<Resource> = listeners.chain(routes).chain(secrets).collect();
        self.bad.extend(all.iter().map(|one| world::any_of(one).value));
    }

    pub(crate) fn publish(&mut self, world: World) {
        self.learn_bad(&world);
        self.world = world;
        let got = self.client.publish(&self.world);
        self.queue.extend(got);
    }

    fn ask(&mut self, kind: ResourceType, names: &[&str]) {
        if names.is_empty() && !self.client.sides[kind].begun {
            return;
        }
        let side = &mut self.client.sides[kind];
        if side.held.keys().any(|name| !names.contains(&name.as_str())) {
            side.version = PARTIAL.to_owned();
        }
        let got = self.client.ask(kind, names);
        self.queue.extend(got);
    }

    /// An answer that was given already, as Envoy gives it when it warms a changed cluster.
    fn repeat(&mut self, kind: ResourceType) {
        let side = &self.client.sides[kind];
        if side.nonce.is_empty() || !side.begun {
            return;
        }
        let nonce = side.nonce.clone();
        let got = if self.client.is_sotw() {
            self.client.ask_sotw(kind, |_| {})
        } else {
            self.client.ask_delta(kind, |request| request.response_nonce = nonce)
        };
        self.queue.extend(got);
    }

    /// Reads one response and answers it.
    fn answer(&mut self) {
        let Some(got) = self.queue.pop_front() else { return };
        let is_bad = |item: &&client::Item| is_bad(got.kind, item, &self.bad);
        let bad: Vec<String> = got.items.iter().filter(is_bad).map(|item| item.name.clone()).collect();
        if bad.is_empty() {
            self.client.take(&got);
            self.follow(got.kind);
            let more = self.client.ack(&got);
            self.queue.extend(more);
            let side = &mut self.client.sides[got.kind];
            if got.items.iter().any(|item| !side.held.contains_key(&item.name)) {
                side.version = PARTIAL.to_owned();
            }
        } else {
            self.refuse(&got, &bad);
        }
        self.check_routes();
    }

    fn refuse(&mut self, got: &Got, bad: &[String]) {
        let names: Vec<&str> = bad.iter().map(String::as_str).collect();
        if got.kind == Cluster {
            let all = got.items.iter().map(|item| item.name.clone());
            self.spoiled.extend(all.filter(|name| self.manner != Manner::KeepsTheRest || bad.contains(name)));
        }
        if self.manner != Manner::NamesNobody {
            let culprits = got.items.iter().filter(|item| bad.contains(&item.name));
            self.client.refused.extend(culprits.map(|item| item.any.clone()));
        }
        let more = match self.manner {
            Manner::KeepsTheRest => {
                self.client.take_all_but(got, &names);
                self.client.sides[got.kind].version = PARTIAL.to_owned();
                self.follow(got.kind);
                self.client.nack_names(got, &names)
            }
            Manner::KeepsNothing => self.client.nack(got, &format!("not {}", names.join(" nor "))),
            Manner::NamesNobody => self.client.nack(got, "no"),
        };
        self.queue.extend(more);
    }

    /// Envoy asks for what the clusters and listeners that it took over need, before it answers.
    fn follow(&mut self, kind: ResourceType) {
        if !self.envoy {
            return;
        }
        if kind == Cluster {
            let names = self.client.sides[Cluster].held.keys().cloned().collect();
            self.ask_if_changed(Endpoints, &names);
            self.repeat(Endpoints);
        }
        if kind == Listener {
            let held = self.client.sides[Listener].held.values();
            let listeners = held.map(|(_, any)| Resource::from_any(any).unwrap());
            let routes = listeners.flat_map(|one| one.refers().to_vec()).filter(|to| to.kind == Route);
            let names: BTreeSet<String> = routes.map(|to| to.name.to_string()).collect();
            self.ask_if_changed(Route, &names);
        }
    }

    fn ask_if_changed(&mut self, kind: ResourceType, names: &BTreeSet<String>) {
        if *names != self.client.sides[kind].names {
            self.ask(kind, &names.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    /// Answers all until nothing more comes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            if self.queue.is_empty() && self.client.stream.is_holding() {
                // Clusters that it refused are not asked for; a server's clock ends the wait.
                self.step(Step::GiveUpWaiting);
            }
            if self.queue.is_empty() {
                // Once it has the whole world, and refused nothing of it, all is known again.
                self.shaky &= cleaned(self.world.clone()) != self.world;
                return;
            }
            self.answer();
        }
        panic!("the server never comes to rest");
    }
}
