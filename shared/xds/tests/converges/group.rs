//! Groups of many clients that share a cache. One of them rejects, or does not, and the others must not notice.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use mesh_xds::XdsVariant;
use mesh_xds::cache::{Cache, EVERYONE, OnRejection, Watch};
use mesh_xds::publication::SyncStatus;
use proptest::prelude::*;

use super::checks::cleaned;
use super::model::Model;
use super::steps::{Manner, Step, client_steps, manners, topologies, variants};
use super::topology::Topology;

/// What happens in a group.
#[derive(Clone, Debug)]
pub(crate) enum GroupStep {
    Publish(Topology),
    /// Publishes the topology with everything invalid corrected.
    Correct,
    /// The owner rolls the group back.
    RollBack,
    /// A client connects in this place if none is there, with nothing; else the client leaves.
    JoinOrLeave(usize),
    /// The client in this place does something.
    Client(usize, Step),
}

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    pub(crate) variant: XdsVariant,
    /// None: it accepts everything.
    pub(crate) rejects: Option<Manner>,
}

/// A client, and its place in the group.
struct Member {
    model: Model,
    watch: Watch,
}

pub(crate) struct Group {
    cache: Arc<Cache>,
    topology: Topology,
    behaviours: Vec<Behaviour>,
    members: Vec<Option<Member>>,
    /// Every response to the client in each place, of all its streams.
    pub(crate) messages: Vec<Vec<String>>,
}

impl Group {
    pub(crate) fn new(behaviours: Vec<Behaviour>, on_rejection: OnRejection) -> Self {
        let cache = Arc::new(Cache::default().on_rejection(on_rejection));
        cache.set(EVERYONE, Topology::default().snapshot());
        let count = behaviours.len();
        let members = (0..count).map(|_| None).collect();
        let mut group = Self {
            cache,
            topology: Topology::default(),
            behaviours,
            members,
            messages: vec![Vec::new(); count],
        };
        (0..count).for_each(|place| group.join(place));
        group
    }

    fn watch(&self, place: usize) -> Watch {
        self.cache.watch(&Node { id: format!("node-{place}"), ..Node::default() })
    }

    fn join(&mut self, place: usize) {
        let behaviour = self.behaviours[place];
        let mut model = Model::unconnected(behaviour.variant, behaviour.rejects);
        model.learn_bad(&self.topology);
        self.members[place] = Some(Member { model, watch: self.watch(place) });
        self.deliver();
        if let Some(member) = &mut self.members[place] {
            member.model.connect();
        }
        self.settle_status(place);
    }

    pub(crate) fn step(&mut self, step: GroupStep) {
        match step {
            GroupStep::Publish(topology) => self.publish(topology),
            GroupStep::Correct => self.publish(cleaned(self.topology.clone())),
            GroupStep::RollBack => {
                _ = self.cache.roll_back(EVERYONE);
                self.deliver();
            }
            GroupStep::JoinOrLeave(place) => match self.members[place].take() {
                Some(member) => {
                    self.record(place, &member.model);
                    drop(member);
                    self.deliver();
                }
                None => self.join(place),
            },
            GroupStep::Client(place, Step::Reconnect) => {
                let watch = self.watch(place);
                if let Some(member) = &mut self.members[place] {
                    // The new stream opens before the server notices the end of the old one.
                    member.watch = watch;
                    if let Some(newest) = member.watch.publications.borrow_and_update().clone() {
                        member.model.client.set_published(newest.publication);
                    }
                    member.model.step(Step::Reconnect);
                }
                self.settle_status(place);
            }
            GroupStep::Client(place, step) => {
                if let Some(member) = &mut self.members[place] {
                    member.model.step(step);
                }
                self.settle_status(place);
            }
        }
    }

    pub(crate) fn publish(&mut self, topology: Topology) {
        for member in self.members.iter_mut().flatten() {
            member.model.learn_bad(&topology);
        }
        self.cache.set(EVERYONE, topology.snapshot());
        self.topology = topology;
        self.deliver();
    }

    /// Hands the newest publication to every client that does not have it yet.
    fn deliver(&mut self) {
        for place in 0..self.members.len() {
            let Some(member) = &mut self.members[place] else { continue };
            if member.watch.publications.has_changed().unwrap() || member.model.is_new() {
                let newest = member.watch.publications.borrow_and_update().clone().unwrap();
                member.model.on_publication(newest.publication);
            }
            self.settle_status(place);
        }
    }

    /// Reports a client's status, which may roll the group back.
    fn settle_status(&mut self, place: usize) {
        let Some(member) = &self.members[place] else { return };
        let before = self.cache.snapshot(EVERYONE);
        member.watch.report(member.model.client.stream.status());
        let now = self.cache.snapshot(EVERYONE);
        if before.map(|one| Arc::as_ptr(&one)) != now.map(|one| Arc::as_ptr(&one)) {
            self.deliver();
        }
    }

    fn record(&mut self, place: usize, model: &Model) {
        self.messages[place]
            .extend(model.client.log.iter().map(|got| format!("{got} {} {}", got.version, got.nonce)));
    }

    /// Answers everything, corrects everything, and checks what every client then holds.
    pub(crate) fn finish(&mut self) {
        self.publish(cleaned(self.topology.clone()));
        for _ in 0..2 {
            for place in 0..self.members.len() {
                if let Some(member) = &mut self.members[place] {
                    member.model.topology = self.topology.clone();
                    member.model.ack_all();
                }
                self.settle_status(place);
            }
        }
        for place in 0..self.members.len() {
            let Some(member) = self.members[place].take() else { continue };
            member.model.check_holds(true);
            let status = member.model.client.stream.status();
            assert!(matches!(status, SyncStatus::Synced(_)), "client {place} is {status:?}");
            self.record(place, &member.model);
        }
    }
}

pub(crate) fn behaviours() -> impl Strategy<Value = Vec<Behaviour>> {
    let rejects = prop::option::of(manners());
    let one = (variants(), rejects).prop_map(|(variant, rejects)| Behaviour { variant, rejects });
    prop::collection::vec(one, 3..7)
}

/// Steps of a group of up to six clients. The owner's rollbacks are part of them if `roll_back`.
pub(crate) fn group_steps(roll_back: bool) -> impl Strategy<Value = Vec<GroupStep>> {
    let back = if roll_back { GroupStep::RollBack } else { GroupStep::Correct };
    let step = prop_oneof![
        6 => topologies().prop_map(GroupStep::Publish),
        1 => Just(GroupStep::Correct),
        1 => Just(back),
        2 => (0..6usize).prop_map(GroupStep::JoinOrLeave),
        20 => (0..6usize, client_steps()).prop_map(|(place, step)| GroupStep::Client(place, step)),
    ];
    prop::collection::vec(step, 1..40)
}

/// Runs the steps that concern the group's clients.
pub(crate) fn run(
    behaviours: &[Behaviour],
    on_rejection: OnRejection,
    steps: &[GroupStep],
) -> Vec<Vec<String>> {
    let mut group = Group::new(behaviours.to_vec(), on_rejection);
    let is_place = |place: &usize| *place < behaviours.len();
    for step in steps {
        match step {
            GroupStep::JoinOrLeave(place) | GroupStep::Client(place, _) if !is_place(place) => {}
            step => group.step(step.clone()),
        }
    }
    group.finish();
    std::mem::take(&mut group.messages)
}
