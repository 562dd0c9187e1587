//! How far one type has come on one stream: what was asked, what was sent, what was answered.
//!
//! Knows one type of one stream. Does not know the other types (`order.rs`) or the two dialects
//! (`sotw.rs`, `delta.rs`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::cache::Quarantine;
use super::resource::{Resource, ResourceType, Version};
use super::snapshot::Resources;
use super::subscription::Subscription;

/// How many responses of a type may wait for their answer. More are only made for clients that keep
/// asking without answering; they have to answer first then.
pub const IN_FLIGHT_LIMIT: usize = 16;

/// What the client has of a resource, as far as we know.
#[derive(Clone, Debug)]
pub enum Held {
    /// We sent this one.
    Sent(Arc<Resource>),
    /// It asked for it, or has a version that we do not know: whatever the snapshot says is news, a
    /// removal included.
    Unknown,
}

/// Names whose resource may differ from what the client holds.
#[derive(Debug, Default)]
pub enum Stale {
    /// None.
    #[default]
    None,
    /// These.
    Names(HashSet<Arc<str>>),
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
                let names: HashSet<Arc<str>> = more.into_iter().collect();
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
}

/// A response that was sent and not answered yet.
#[derive(Debug)]
pub struct InFlight {
    /// Its nonce.
    pub nonce: u64,
    /// What was new in it, and what the client had before.
    pub news: Vec<(Arc<Resource>, Option<Held>)>,
}

/// What a snapshot demands of a type on this stream.
#[derive(Debug, Default)]
pub struct Difference {
    /// Resources that the client should have and has not.
    pub news: Vec<Arc<Resource>>,
    /// Names that we sent and that the snapshot no longer has.
    pub gone: Vec<Arc<str>>,
    /// Names that the client asked about and that the snapshot does not have.
    pub missing: Vec<Arc<str>>,
}

/// One type on one stream.
#[derive(Debug, Default)]
pub struct Track {
    /// What the client asked for.
    pub subscription: Subscription,
    /// What it has, by name.
    held: HashMap<Arc<str>, Held>,
    /// The version of all that we sent and did not take back.
    version: Version,
    /// What has to be looked at.
    pub stale: Stale,
    /// A request waits for its response, even if that brings nothing new.
    pub must_answer: bool,
    /// A request named something: it is answered without waiting for other types.
    pub asked: bool,
    /// Unanswered responses, oldest first.
    pub in_flight: Vec<InFlight>,
    /// What the client refused and the snapshot still has.
    pub refused: HashMap<Version, Arc<Resource>>,
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
        self.stale.is_none() && self.in_flight.is_empty() && self.refused.is_empty() && !self.must_answer
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
        self.held.values().filter_map(|held| match held {
            Held::Sent(resource) => Some(resource),
            Held::Unknown => None,
        })
    }

    /// Notes that the client has this resource now; returns what it had before.
    pub fn hold(&mut self, resource: Arc<Resource>) -> Option<Held> {
        let name = Arc::clone(resource.name());
        self.set(name, Some(Held::Sent(resource)))
    }

    /// Notes that the client's version of this name is not known.
    pub fn doubt(&mut self, name: Arc<str>) {
        self.set(name, Some(Held::Unknown));
    }

    /// Notes that the client does not have this name.
    pub fn forget(&mut self, name: &Arc<str>) {
        self.set(Arc::clone(name), None);
    }

    /// Notes that the client has only what it subscribes to.
    pub fn forget_unwanted(&mut self) {
        let unwanted: Vec<_> =
            self.held.keys().filter(|name| !self.subscription.wants(name)).cloned().collect();
        unwanted.iter().for_each(|name| self.forget(name));
    }

    /// Makes room for resources that are about to be held.
    pub fn reserve(&mut self, more: usize) {
        self.held.reserve(more);
    }

    /// The one place where `held` changes, so that `version` always is the sum of what was sent.
    fn set(&mut self, name: Arc<str>, held: Option<Held>) -> Option<Held> {
        if let Some(Held::Sent(resource)) = &held {
            self.version = self.version.with(resource.version());
        }
        let before = match held {
            Some(held) => self.held.insert(name, held),
            None => self.held.remove(&name),
        };
        if let Some(Held::Sent(resource)) = &before {
            self.version = self.version.without(resource.version());
        }
        before
    }

    /// Compares what the client holds with what `target` has, for the stale names.
    ///
    /// A refused version is passed over: the client keeps what it has, or gets what was accepted last.
    pub fn difference(&self, kind: ResourceType, target: &Resources, quarantine: &Quarantine) -> Difference {
        let mut found = Difference::default();
        let mut look = |name: &Arc<str>| {
            let held = self.held.get(name);
            let wanted = target.get(name).filter(|_| self.subscription.wants(name));
            let wanted = match wanted {
                Some(resource) if self.is_refused(resource, quarantine) => match held {
                    Some(Held::Sent(_)) => return,
                    _ => self.instead_of(kind, name, quarantine),
                },
                wanted => wanted,
            };
            match (wanted, held) {
                (Some(resource), Some(Held::Sent(sent))) if resource.version() == sent.version() => {}
                (Some(resource), _) => found.news.push(Arc::clone(resource)),
                (None, Some(Held::Sent(_))) => found.gone.push(Arc::clone(name)),
                (None, Some(Held::Unknown)) => found.missing.push(Arc::clone(name)),
                (None, None) => {}
            }
        };
        match &self.stale {
            Stale::None => {}
            Stale::Names(names) => names.iter().for_each(look),
            Stale::All => {
                if self.subscription.is_wildcard() {
                    target.iter().for_each(|resource| look(resource.name()));
                } else {
                    self.subscription.names().for_each(&mut look);
                }
                // What we sent and nobody named above: it is gone from the target or not wanted now.
                let unseen = |name: &&Arc<str>| {
                    let seen = if self.subscription.is_wildcard() {
                        target.get(name).is_some()
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
    fn instead_of<'a>(
        &self,
        kind: ResourceType,
        name: &str,
        quarantine: &'a Quarantine,
    ) -> Option<&'a Arc<Resource>> {
        let accepted = quarantine.accepted.as_ref()?.get(kind, name)?;
        (!self.is_refused(accepted, quarantine)).then_some(accepted)
    }

    /// What a client of this subscription should have of this name: the target's, unless that was refused.
    pub fn best<'a>(
        &self,
        kind: ResourceType,
        target: &'a Arc<Resource>,
        quarantine: &'a Quarantine,
    ) -> Option<&'a Arc<Resource>> {
        if self.is_refused(target, quarantine) {
            self.instead_of(kind, target.name(), quarantine)
        } else {
            Some(target)
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

    /// The client accepted a response. Returns whether it was still unanswered.
    ///
    /// Responses that were sent before it count as answered too, for a client answers in order.
    pub fn accept(&mut self, nonce: u64) -> bool {
        let at = self.in_flight.iter().position(|response| response.nonce == nonce);
        at.map(|at| self.in_flight.drain(..=at)).is_some()
    }

    /// The client refused a response: it keeps what it had before. Returns what was new in it.
    pub fn refuse(&mut self, nonce: u64) -> Vec<Arc<Resource>> {
        let Some(at) = self.in_flight.iter().position(|response| response.nonce == nonce) else {
            return Vec::new();
        };
        let news = self.in_flight.drain(..=at).next_back().map(|response| response.news).unwrap_or_default();
        for (resource, before) in &news {
            self.set(Arc::clone(resource.name()), before.clone());
            self.refused.insert(resource.version(), Arc::clone(resource));
        }
        news.into_iter().map(|(resource, _)| resource).collect()
    }

    /// If the target corrects anything that the client refused, everything that was refused with it is
    /// due again: a client may have refused a whole response for one resource in it.
    pub fn forgive_what_was_corrected(&mut self, target: &Resources) {
        let stands =
            |one: &Arc<Resource>| target.get(one.name()).is_some_and(|now| now.version() == one.version());
        if !self.refused.values().all(stands) {
            let refused = std::mem::take(&mut self.refused);
            self.stale.extend(refused.values().map(|resource| Arc::clone(resource.name())));
        }
    }
}
