//! Whatever happens, in whatever order: the client ends up with what it asked for, and never holds a
//! route to a cluster that it does not hold.
//!
//! Random worlds are published while a model client asks, accepts, refuses, dawdles and reconnects. It
//! keeps to the protocol and nothing more. `Client` itself checks each response: no name twice, not too
//! many unanswered, nothing again that was refused.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/world.rs"]
mod world;

use std::collections::{BTreeSet, VecDeque};

use client::{Client, Got};
use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterMessage;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use proptest::prelude::*;
use prost::Message as _;
use shared::xds::Resource;
use shared::xds::ResourceType::{self, Cluster, Endpoints, Listener, Route, Secret};
use shared::xds::frame::Dialect;
use world::World;

/// Clients refuse what has this edition.
const BAD: u32 = 9;

/// State of the world: a client that kept a part of a response, or dropped a part of what it had, has no
/// version for what it holds. One that reconnects with the last version that it accepted all the same
/// cannot be helped, for no server can know.
const PARTIAL: &str = "a part of something";

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Publish(World),
    /// Publishes while the stream is too busy to notice; the next publication comes with a gap.
    PublishUnnoticed(World),
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
enum Manner {
    /// It names the culprits and keeps the rest, like gRPC.
    KeepsTheRest,
    /// It names the culprits and keeps nothing of the response.
    KeepsNothing,
    /// It does not even say whom it means.
    NamesNobody,
}

const CLUSTERS: [&str; 4] = ["c0", "c1", "c2", "c3"];
const ROUTES: [&str; 3] = ["r0", "r1", "r2"];
const LISTENERS: [&str; 3] = ["l0", "l1", "l2"];
const SECRETS: [&str; 2] = ["s0", "s1"];

fn names_of(kind: ResourceType) -> &'static [&'static str] {
    match kind {
        Cluster | Endpoints => &CLUSTERS,
        Secret => &SECRETS,
        Listener => &LISTENERS,
        Route => &ROUTES,
    }
}

fn edition() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![3 => Just(None), 8 => (1..=3u32).prop_map(Some), 1 => Just(Some(BAD))]
}

/// A world in which everything that is referred to exists.
fn worlds() -> impl Strategy<Value = World> {
    let clusters = prop::array::uniform4((edition(), 1..=2u32));
    let routes = prop::array::uniform3((edition(), 0..16usize));
    let listeners = prop::array::uniform3((edition(), 0..3usize));
    let secrets = prop::array::uniform2(edition());
    (clusters, routes, listeners, secrets).prop_map(|(clusters, routes, listeners, secrets)| {
        let mut world = World::default();
        for (name, (edition, endpoints)) in CLUSTERS.iter().zip(clusters) {
            if let Some(edition) = edition {
                world = world.cluster(name, edition).endpoints(name, endpoints);
            }
        }
        for (name, (edition, leads_to)) in ROUTES.iter().zip(routes) {
            let chosen = CLUSTERS.iter().enumerate().filter(|(at, _)| leads_to & (1 << at) != 0);
            let there: Vec<_> =
                chosen.map(|(_, cluster)| *cluster).filter(|one| world.clusters.contains_key(*one)).collect();
            if let Some(edition) = edition {
                world = world.route(name, edition, &there);
            }
        }
        for (name, (edition, route)) in LISTENERS.iter().zip(listeners) {
            if let Some(edition) = edition.filter(|_| world.routes.contains_key(ROUTES[route])) {
                world = world.listener(name, edition, ROUTES[route]);
            }
        }
        for (name, edition) in SECRETS.iter().zip(secrets) {
            if let Some(edition) = edition {
                world = world.secret(name, edition);
            }
        }
        world
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let names =
        prop::sample::subsequence(vec!["*", "c0", "c1", "c2", "l0", "l1", "r0", "r1", "s0", "s1"], 0..6);
    let step = prop_oneof![
        6 => worlds().prop_map(Step::Publish),
        1 => worlds().prop_map(Step::PublishUnnoticed),
        10 => (1..4usize).prop_map(Step::Answer),
        4 => (0..5usize, names).prop_map(|(kind, names)| Step::Ask(kind, names)),
        2 => (0..5usize).prop_map(Step::Repeat),
        1 => Just(Step::GiveUpWaiting),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 1..40)
}

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

struct Model {
    client: Client,
    /// Whether it asks like Envoy: everything first, then what that refers to.
    envoy: bool,
    manner: Manner,
    /// Responses on their way.
    queue: VecDeque<Got>,
    world: World,
    /// The encoded listeners, routes and secrets of the worlds so far that have the bad edition.
    bad: Vec<Vec<u8>>,
    /// Clusters that were in a response that it refused: it may lack them by its own choice.
    spoiled: BTreeSet<String>,
    /// Since a reconnect the server does not know what it holds, so order cannot be promised.
    shaky: bool,
    reconnected: bool,
}

impl Model {
    fn new(dialect: Dialect, envoy: bool, manner: Manner) -> Self {
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

    fn step(&mut self, step: Step) {
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

    fn publish(&mut self, world: World) {
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

    /// Make before break: each route that the client accepted leads to clusters that it holds.
    fn check_routes(&self) {
        if self.shaky || !self.envoy {
            return;
        }
        let clusters = &self.client.sides[Cluster].held;
        for (name, (_, any)) in &self.client.sides[Route].held {
            for to in Resource::from_any(any).unwrap().refers() {
                let has = clusters.contains_key(&*to.name) || self.spoiled.contains(&*to.name);
                assert!(has, "route {name} leads to {}, which the client does not hold", to.name);
            }
        }
    }

    /// Answers all until nothing more comes.
    fn settle(&mut self) {
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

    /// The client holds what it subscribes to and the world has. With bad resources about, those that
    /// are bad, or that need such, may be missing or old.
    fn check_holds(&self, clean: bool) {
        let snapshot = self.world.snapshot();
        for kind in ResourceType::ALL {
            let side = &self.client.sides[kind];
            let wants = |name: &str| side.is_wildcard() || side.names.contains(name);
            for resource in snapshot.of(kind).iter().filter(|one| side.begun && wants(one.name())) {
                if clean || self.is_sound(resource) {
                    assert!(
                        self.client.has(resource),
                        "it lacks {resource:?}, and holds {:?}",
                        self.client.holds(kind)
                    );
                }
            }
            for name in side.held.keys() {
                let is_told = kind.is_root() || !self.client.is_sotw();
                let there = snapshot.get(kind, name).is_some();
                // What a refused listener or route would have replaced is kept for the old one.
                assert!(there || !is_told || !clean, "{kind} {name} is gone, and it still holds it");
            }
        }
    }

    /// Neither bad itself nor in need of something that is.
    fn is_sound(&self, resource: &Resource) -> bool {
        let (name, world) = (&**resource.name(), &self.world);
        match resource.kind() {
            Cluster => world.clusters[name] != BAD,
            Endpoints => true,
            Secret => world.secrets[name] != BAD,
            Listener => world.listeners[name].0 != BAD,
            Route => {
                let (edition, clusters) = &world.routes[name];
                *edition != BAD && clusters.iter().all(|cluster| world.clusters[cluster] != BAD)
            }
        }
    }
}

/// The world with nothing bad in it.
fn cleaned(mut world: World) -> World {
    let editions = world.clusters.values_mut().chain(world.secrets.values_mut());
    let editions = editions.chain(world.listeners.values_mut().map(|(edition, _)| edition));
    for edition in editions.chain(world.routes.values_mut().map(|(edition, _)| edition)) {
        if *edition == BAD {
            *edition = BAD + 1;
        }
    }
    world
}

fn run(dialect: Dialect, envoy: bool, manner: Manner, steps: Vec<Step>) {
    let mut model = Model::new(dialect, envoy, manner);
    for step in steps {
        model.step(step);
    }
    // Unnoticed publications are superseded, as a watch does it.
    let world = model.world.clone();
    model.publish(world);
    model.settle();
    // Without anything that was ever accepted, a client that reconnects is left alone as long as
    // something that it may have is bad.
    let is_left_alone = model.reconnected && model.client.quarantine.accepted.is_none();
    if manner == Manner::KeepsTheRest && !is_left_alone {
        model.check_holds(false);
    }
    let world = cleaned(model.world.clone());
    model.publish(world);
    model.settle();
    model.check_holds(true);
    assert!(matches!(model.client.stream.standing(), shared::xds::cache::Standing::Settled(_)) || !envoy);
}

/// A few seconds' worth; `PROPTEST_CASES` sets another number. A failure prints the steps, so no file
/// keeps them.
fn config() -> ProptestConfig {
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    let default =
        ProptestConfig { failure_persistence: None, max_shrink_time: 30_000, ..ProptestConfig::default() };
    if given { default } else { ProptestConfig { cases: 400, ..default } }
}

fn manners() -> impl Strategy<Value = Manner> {
    prop_oneof![Just(Manner::KeepsTheRest), Just(Manner::KeepsNothing), Just(Manner::NamesNobody)]
}

fn dialects() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Sotw), Just(Dialect::Delta)]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn envoy_converges_and_never_holds_a_route_to_nowhere(
        dialect in dialects(), manner in manners(), steps in steps()
    ) {
        run(dialect, true, manner, steps);
    }

    #[test]
    fn a_client_that_asks_for_anything_converges(
        dialect in dialects(), manner in manners(), steps in steps()
    ) {
        run(dialect, false, manner, steps);
    }
}
