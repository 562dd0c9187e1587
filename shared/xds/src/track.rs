//! How far one type has come on one stream: what was asked, what was sent, what was answered.
//!
//! Knows one type of one stream. Does not know the other types (`order.rs`) or the two dialects
//! (`sotw.rs`, `delta.rs`). What an answer changes stands in `track/answer.rs`.

mod answer;

use std::collections::HashMap;
use std::sync::Arc;

pub use answer::Blame;
use answer::Refused;

use super::cache::Quarantine;
use super::names::{NameMap, NameSet};
use super::resource::{Resource, ResourceType, Version};
use super::snapshot::Snapshot;
use super::subscription::Subscription;

/// How many responses of a type may wait for their answer. More are only made for clients that keep
/// asking without answering; they have to answer first then.
pub const IN_FLIGHT_LIMIT: usize = 16;

/// What the client has of a resource, as far as we know.
#[derive(Clone, Debug)]
pub enum Held {
    /// We sent this one.
    Sent(Arc<Resource>),
    /// It asked for it and has to be answered, whatever we sent before: a removal is an answer too.
    Asked(Option<Arc<Resource>>),
    /// We sent this one, but it may not have taken it over: no version claims it, and it is still needed.
    Maybe(Arc<Resource>),
    /// It has a version from an earlier stream that is not the snapshot's.
    Other,
}

impl Held {
    /// The resource that we sent last, if the client should have it.
    pub fn sent(&self) -> Option<&Arc<Resource>> {
        match self {
            Self::Sent(resource) | Self::Asked(Some(resource)) => Some(resource),
            Self::Asked(None) | Self::Maybe(_) | Self::Other => None,
        }
    }

    /// The resource that we sent last, even if the client may not have it.
    pub fn resource(&self) -> Option<&Arc<Resource>> {
        match self {
            Self::Maybe(resource) => Some(resource),
            held => held.sent(),
        }
    }
}

/// Names whose resource may differ from what the client holds.
#[derive(Debug, Default)]
pub enum Stale {
    /// None.
    #[default]
    None,
    /// These.
    Names(NameSet),
    /// Any.
    All,
}

impl Stale {
    /// Adds names.
    pub fn extend(&mut self, more: impl IntoIterator<Item = Arc<str>>) {
        match self {
            Self::All => {}
            Self::Names(names) => names.extend(more),
            Self::None => {
                let names: NameSet = more.into_iter().collect();
                if !names.is_empty() {
                    *self = Self::Names(names);
                }
            }
        }
    }

    /// Whether no name may differ.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Whether this name may differ.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Names(names) => names.contains(name),
            Self::All => true,
        }
    }
}

/// A response that was sent and not answered yet.
#[derive(Debug)]
pub struct InFlight {
    /// Its nonce.
    pub nonce: u64,
    /// The number of the publication that it told of.
    pub seq: u64,
    /// The version that it carried.
    pub version: Version,
    /// What was new in it, and what the client had before.
    pub news: Vec<(Arc<Resource>, Option<Held>)>,
    /// What it took away, and what the client had of that.
    pub gone: Vec<(Arc<str>, Held)>,
}

/// What a snapshot demands of a type on this stream.
#[derive(Debug, Default)]
pub struct Difference {
    /// Resources that the client should have and has not.
    pub news: Vec<Arc<Resource>>,
    /// Names that the client has and that the snapshot no longer has.
    pub gone: Vec<Arc<str>>,
    /// Names that the client asked for and that the snapshot does not have.
    pub missing: Vec<Arc<str>>,
}

/// One type on one stream.
#[derive(Debug, Default)]
pub struct Track {
    /// What the client asked for.
    pub subscription: Subscription,
    /// What it has, by name.
    held: NameMap<Held>,
    /// The version of all that we sent and did not take back.
    version: Version,
    /// What has to be looked at.
    pub stale: Stale,
    /// A request waits for its response, even if that brings nothing new.
    pub must_answer: bool,
    /// A request wants an answer: it gets one without waiting for other types.
    pub asked: bool,
    /// That request wants all that it subscribes to, not only the names that are [`Held::Asked`].
    pub asked_for_all: bool,
    /// Unanswered responses, oldest first.
    pub in_flight: Vec<InFlight>,
    /// What the client refused and the snapshot still has.
    refused: HashMap<Version, Refused>,
    /// What else was in the responses that it refused: it may have taken that over, or not.
    beside: NameSet,
    /// What it had of those before, and may still work with, until it accepts something newer.
    leftovers: NameMap<Arc<Resource>>,
    /// Whether a refusal stands.
    complains: bool,
    /// State of the world: the client still has all that an earlier stream brought, which we do not know,
    /// and which only a full response that it accepts replaces.
    pub is_foreign: bool,
    /// State of the world: names that a request left out which did not count. If the next one that does
    /// count has them, the client dropped them and wants them again.
    pub left_out: NameSet,
    /// The newest nonce that was sent.
    pub nonce: u64,
    /// What the client says it still has from an earlier stream, until that was looked at.
    pub resume: Option<Resume>,
}

/// What a reconnecting client says it has.
#[derive(Debug)]
pub enum Resume {
    /// State of the world: the version of the whole.
    Whole(String),
    /// Delta: the version of each resource.
    Each(HashMap<String, String>),
}

impl Track {
    /// Whether everything was sent and accepted.
    pub fn is_settled(&self) -> bool {
        let all_said = self.stale.is_none() && !self.must_answer && self.resume.is_none();
        all_said && self.in_flight.is_empty() && !self.complains
    }

    /// Whether the client refused something that nobody corrected yet.
    pub fn complains(&self) -> bool {
        self.complains
    }

    /// The version of what the client holds.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the client has of this name.
    pub fn holds(&self, name: &str) -> Option<&Held> {
        self.held.get(name)
    }

    /// Everything that we sent and did not take back.
    pub fn sent(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.held.values().filter_map(Held::sent)
    }

    /// Every resource that the client may work with at this moment: what it was sent, and what it had
    /// before as long as it has not accepted what replaces it.
    pub fn in_use(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let before = self.in_flight.iter().flat_map(|response| {
            let before = response.news.iter().filter_map(|(_, before)| before.as_ref()?.resource());
            before.chain(response.gone.iter().filter_map(|(_, held)| held.resource()))
        });
        self.held.values().filter_map(Held::resource).chain(before).chain(self.leftovers.values())
    }

    /// Whether the client has versions that we do not know, and that may refer to anything.
    pub fn has_something_unknown(&self) -> bool {
        self.held.values().any(|held| matches!(held, Held::Other))
    }

    /// Notes that the client has this resource now; returns what it had before.
    pub fn hold(&mut self, resource: Arc<Resource>) -> Option<Held> {
        let name = Arc::clone(resource.name());
        self.set(name, Some(Held::Sent(resource)))
    }

    /// Notes that the client asked for this name, and has to be told about it even if nothing changed.
    pub fn owe(&mut self, name: Arc<str>) {
        let before = self.held.get(&name).and_then(Held::resource).cloned();
        self.set(Arc::clone(&name), Some(Held::Asked(before)));
        self.stale.extend([name]);
        self.asked = true;
    }

    /// Notes that the client has some version of this name that the snapshot does not have.
    pub fn doubt(&mut self, name: Arc<str>) {
        self.set(name, Some(Held::Other));
    }

    /// Notes that the client does not have this name.
    pub fn forget(&mut self, name: &Arc<str>) {
        self.leftovers.remove(name);
        self.set(Arc::clone(name), None);
    }

    /// Notes that the client has only what it subscribes to.
    pub fn forget_unwanted(&mut self) {
        let unwanted: Vec<_> =
            self.held.keys().filter(|name| !self.subscription.wants(name)).cloned().collect();
        unwanted.iter().for_each(|name| self.forget(name));
        self.leftovers.retain(|name, _| self.subscription.wants(name));
    }

    /// What is on its way may be taken over by a client that gave up everything and wants it again, so
    /// it has to be told about that again.
    pub fn doubt_what_is_in_flight(&mut self) {
        let news = self.in_flight.iter().flat_map(|response| &response.news);
        let dropped = news.filter(|(one, _)| !self.held.contains_key(one.name()));
        let dropped: Vec<_> = dropped.map(|(one, _)| Arc::clone(one)).collect();
        for resource in dropped {
            self.set(Arc::clone(resource.name()), Some(Held::Maybe(resource)));
        }
    }

    /// Makes room for resources that are about to be held.
    pub fn reserve(&mut self, more: usize) {
        self.held.reserve(more);
    }

    /// The one place where `held` changes, so that `version` always is the sum of what was sent.
    fn set(&mut self, name: Arc<str>, held: Option<Held>) -> Option<Held> {
        if let Some(resource) = held.as_ref().and_then(Held::sent) {
            self.version = self.version.with(resource.version());
        }
        let before = match held {
            Some(held) => self.held.insert(name, held),
            None => self.held.remove(&name),
        };
        if let Some(resource) = before.as_ref().and_then(Held::sent) {
            self.version = self.version.without(resource.version());
        }
        before
    }

    /// Compares what the client holds with what `target` has, for the stale names.
    ///
    /// A refused version is passed over: the client keeps what it has, or gets what was accepted last.
    pub fn difference(&self, kind: ResourceType, target: &Snapshot, quarantine: &Quarantine) -> Difference {
        let mut found = Difference::default();
        let resources = target.of(kind);
        let mut look = |name: &Arc<str>| {
            let held = self.held.get(name);
            let wanted = resources.get(name).filter(|_| self.subscription.wants(name));
            let wanted = match wanted {
                Some(resource) if self.is_refused(resource, quarantine) => {
                    let accepted = self.instead_of(kind, name, target, quarantine);
                    match held {
                        Some(Held::Sent(_)) => return,
                        // It has something that works; we only do not know what.
                        Some(Held::Other) if accepted.is_none() => return,
                        Some(Held::Asked(Some(had)) | Held::Maybe(had)) => {
                            Some(had).filter(|had| !self.refused.contains_key(&had.version()))
                        }
                        _ => accepted,
                    }
                }
                wanted => wanted,
            };
            match (wanted, held) {
                (Some(resource), Some(Held::Sent(sent))) if resource.version() == sent.version() => {}
                (Some(resource), _) => found.news.push(Arc::clone(resource)),
                (None, Some(Held::Asked(None))) => found.missing.push(Arc::clone(name)),
                (None, Some(_)) => found.gone.push(Arc::clone(name)),
                (None, None) => {}
            }
        };
        match &self.stale {
            Stale::None => {}
            Stale::Names(names) => names.iter().for_each(look),
            Stale::All => {
                if self.subscription.is_wildcard() {
                    resources.iter().for_each(|resource| look(resource.name()));
                } else {
                    self.subscription.names().for_each(&mut look);
                }
                // What we sent and nobody named above: it is gone from the target or not wanted now.
                let unseen = |name: &&Arc<str>| {
                    let seen = if self.subscription.is_wildcard() {
                        resources.get(name).is_some()
                    } else {
                        self.subscription.wants(name)
                    };
                    !seen
                };
                self.held.keys().filter(unseen).for_each(look);
            }
        }
        found
    }

    /// Whether the client, or another one of its group, refused this very version.
    pub fn is_refused(&self, resource: &Resource, quarantine: &Quarantine) -> bool {
        let version = &resource.version();
        self.refused.contains_key(version) || quarantine.versions.contains(version)
    }

    /// What to send instead of a refused version: what all clients accepted last.
    ///
    /// Unless the target no longer has what that refers to: a route to nowhere is worse than none.
    fn instead_of<'a>(
        &self,
        kind: ResourceType,
        name: &str,
        target: &Snapshot,
        quarantine: &'a Quarantine,
    ) -> Option<&'a Arc<Resource>> {
        let accepted = quarantine.accepted.as_ref()?.get(kind, name)?;
        let is_whole = accepted.refers().iter().all(|to| target.leads_somewhere(to));
        (is_whole && !self.is_refused(accepted, quarantine)).then_some(accepted)
    }

    /// What a client of this subscription should have of this name: the target's, unless that was refused.
    pub fn best<'a>(
        &self,
        wanted: &'a Arc<Resource>,
        target: &Snapshot,
        quarantine: &'a Quarantine,
    ) -> Option<&'a Arc<Resource>> {
        if self.is_refused(wanted, quarantine) {
            self.instead_of(wanted.kind(), wanted.name(), target, quarantine)
        } else {
            Some(wanted)
        }
    }

    /// Takes `news` over as what the client has from now on; returns it with what was there before.
    pub fn take_over(&mut self, news: Vec<Arc<Resource>>) -> Vec<(Arc<Resource>, Option<Held>)> {
        news.into_iter()
            .map(|resource| {
                let before = self.hold(Arc::clone(&resource));
                (resource, before)
            })
            .collect()
    }

    /// Takes these names away from what the client has; returns what it had of them.
    pub fn take_away(&mut self, gone: &[Arc<str>]) -> Vec<(Arc<str>, Held)> {
        let had = gone.iter().map(|name| (Arc::clone(name), self.set(Arc::clone(name), None)));
        had.filter_map(|(name, held)| Some((name, held?))).collect()
    }
}
