//! The state of one type on one stream: what the client requested, what it was sent, and what it answered.
//!
//! Fields are private, so that each invariant is kept here: every change is a named transition. The order between
//! types is the subject of `ordering.rs`; what a request means in each variant is that of `sotw.rs` and `delta.rs`.
//!
//! This file has the fields and the queries. The transitions are in `requests.rs` (subscriptions), `resume.rs`
//! (publications and reconnects), `answers.rs` (ACKs), `rejection.rs` and `nacks.rs` (NACKs), `compare.rs` (the difference to the
//! snapshot) and `sending.rs` (responses).

mod client_resource;

mod dirty_names;

mod requests;

mod resume;

mod answers;

mod rejection;

mod nacks;

pub(crate) mod compare;

pub(crate) mod sending;

use std::collections::HashMap;
use std::sync::Arc;

use client_resource::ClientResource;
use dirty_names::DirtyNames;
use rejection::RejectedChange;
pub use rejection::RejectedResponse;

use crate::names::{NameMap, NameSet};
use crate::resource::Resource;
use crate::subscription::Subscription;
use crate::version::Version;

/// A request that still needs a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum OpenRequest {
    /// There is none.
    #[default]
    None,
    /// It is about the names that are [`ClientResource::Requested`].
    Names,
    /// It is about every resource that the client subscribes to.
    Everything,
}

/// What a reconnecting client says it has from an earlier stream.
#[derive(Debug)]
pub(crate) enum Resume {
    /// State of the world: the version of the whole type.
    Whole(String),
    /// Delta: the version of each resource.
    Each(HashMap<String, String>),
}

/// A resource, and what the client had of it before.
type Change = (Arc<Resource>, Option<ClientResource>);

/// A response that the client has not answered yet.
#[derive(Debug)]
struct InFlight {
    nonce: u64,
    /// The number of the publication that it describes.
    seq: u64,
    version: Version,
    /// Resources that were new in it.
    changed: Vec<Change>,
    /// Resources that it removed, and what the client had of each.
    removed: Vec<(Arc<str>, ClientResource)>,
}

/// One type on one stream.
#[derive(Debug, Default)]
pub(crate) struct TypeState {
    subscription: Subscription,
    /// What the client has, by name. [`Self::set`] is the only place that changes it.
    held: NameMap<ClientResource>,
    /// The sum of the versions in `held` that were sent.
    version: Version,
    dirty: DirtyNames,
    /// Whether a request needs a response even if nothing changed.
    must_respond: bool,
    request: OpenRequest,
    /// Unanswered responses, oldest first.
    in_flight: Vec<InFlight>,
    /// Rejected changes that the snapshot still has.
    rejected: NameMap<RejectedChange>,
    /// Names that were rejected in a response with others, and are sent once more, each alone.
    retry_alone: NameSet,
    /// Rejected resources that the client may use nevertheless, until it accepts something newer.
    possibly_held: NameMap<Vec<Arc<Resource>>>,
    /// State of the world: whether the client still has unknown resources of an earlier stream, which only a full
    /// response that it accepts replaces.
    has_unknown_resources: bool,
    /// State of the world: names that an ignored request with a stale nonce left out. If the next valid request has
    /// them, the client dropped them and wants them again.
    omitted: NameSet,
    /// The nonce of the last response.
    nonce: u64,
    resume: Option<Resume>,
}

/// Queries.
impl TypeState {
    /// The client's subscription.
    pub(crate) fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// Whether everything was sent and accepted.
    pub(crate) fn is_synced(&self) -> bool {
        let all_sent = self.dirty.is_none() && !self.must_respond && self.resume.is_none();
        all_sent && self.in_flight.is_empty() && !self.has_rejected()
    }

    /// Whether no response is unanswered, and no request needs one.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.in_flight.is_empty() && !self.must_respond
    }

    /// Whether there is nothing to compare and nothing to respond to.
    pub(crate) fn is_idle(&self) -> bool {
        self.dirty.is_none() && !self.must_respond
    }

    /// Whether a request waits for its response.
    pub(crate) fn has_open_request(&self) -> bool {
        self.request > OpenRequest::None
    }

    /// Whether that request is about everything that the client subscribes to.
    pub(crate) fn requests_everything(&self) -> bool {
        self.request == OpenRequest::Everything
    }

    /// Whether the client requested this name, and waits for the response.
    pub(crate) fn requests(&self, name: &str) -> bool {
        self.requests_everything() || matches!(self.held.get(name), Some(ClientResource::Requested(_)))
    }

    /// Whether a request needs a response even if nothing changed.
    pub(crate) fn must_respond(&self) -> bool {
        self.must_respond
    }

    /// The version of what the client holds.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The nonce of the last response.
    pub(crate) fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The nonce of the oldest response that the client has not answered.
    pub(crate) fn oldest_unanswered(&self) -> Option<u64> {
        self.in_flight.first().map(|response| response.nonce)
    }

    /// How many responses the client has not answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether the resource with this name may differ from what the client has.
    pub(crate) fn is_dirty(&self, name: &str) -> bool {
        self.dirty.contains(name)
    }

    /// Whether the client has this name, in some version or as a request.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.held.contains_key(name)
    }

    /// Whether the client was sent this name, even if it may not have accepted it.
    pub(crate) fn was_sent(&self, name: &str) -> bool {
        self.held.get(name).is_some_and(|held| held.sent().is_some())
    }

    /// Every resource that the client should have.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.held.values().filter_map(ClientResource::sent)
    }

    /// Every resource that the client may use at this moment: what it was sent, and what it had before
    /// as long as it has not accepted the replacement.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let before = self.in_flight.iter().flat_map(|response| {
            let changed = response.changed.iter().filter_map(|(_, before)| before.as_ref()?.sent());
            changed.chain(response.removed.iter().filter_map(|(_, held)| held.sent()))
        });
        self.sent().chain(before).chain(self.possibly_held.values().flatten())
    }

    /// Whether the client has versions that the server does not know, and that may refer to anything.
    pub(crate) fn has_unknown_versions(&self) -> bool {
        self.held.values().any(|held| matches!(held, ClientResource::OutdatedVersion))
    }
}

impl TypeState {
    /// The one place where `held` changes, so that `version` always is the sum of what was sent.
    fn set(&mut self, name: Arc<str>, held: Option<ClientResource>) -> Option<ClientResource> {
        if let Some(resource) = held.as_ref().and_then(ClientResource::confirmed) {
            self.version = self.version.with(resource.version());
        }
        let before = match held {
            Some(held) => self.held.insert(name, held),
            None => self.held.remove(&name),
        };
        if let Some(resource) = before.as_ref().and_then(ClientResource::confirmed) {
            self.version = self.version.without(resource.version());
        }
        before
    }
}
