//! The state of one client's stream, without the network.
//!
//! ```text
//!   on_sotw_request / on_delta_request (a request) ─┐
//!   on_publication (a new snapshot)                 ─┼─> state ──> pending_responses() ──> responses, in order
//!   stop_awaiting_eds (a timer)                     ─┘
//! ```
//!
//! Nothing here awaits, locks or sleeps. The server's stream handler owns the socket and calls this; the tests call it
//! directly. **A request is up to three things at once**: it subscribes, it answers a response, and the answer may be
//! an error.
//!
//! [`StreamState::pending_responses`] takes each type through three steps: decide what may be sent now, commit that to
//! the type's state, and respond.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use crate::client_quirks::ClientQuirks;
use crate::ordering::{self, PendingEndpoints};
use crate::publication::{Publication, Quarantine, SyncStatus};
use crate::resource_type::{PerType, ResourceType};
use crate::response::{Payload, RequestOutcome, Response};
use crate::snapshot::Snapshot;
use crate::type_state::compare::Difference;
use crate::type_state::sending::{Committed, Decision};
use crate::type_state::{Resume, TypeState};
use crate::variant::XdsVariant;
use crate::{delta, sotw};

/// How many responses of a type may be unanswered. Only a client that keeps sending requests without answering
/// gets more than one, and has to answer at this limit.
pub const IN_FLIGHT_LIMIT: usize = 16;

/// The state of one stream.
#[derive(Debug)]
pub struct StreamState {
    variant: XdsVariant,
    quirks: ClientQuirks,
    target: Option<Arc<Publication>>,
    types: PerType<TypeState>,
    pending_endpoints: PendingEndpoints,
    last_nonce: u64,
}

impl StreamState {
    /// The state of a stream that just opened.
    pub fn new(variant: XdsVariant, quirks: ClientQuirks) -> Self {
        Self {
            variant,
            quirks,
            target: None,
            types: PerType::default(),
            pending_endpoints: PendingEndpoints::default(),
            last_nonce: 0,
        }
    }

    /// Applies a state-of-the-world request for resources of this type.
    pub fn on_sotw_request(&mut self, kind: ResourceType, request: &DiscoveryRequest) -> RequestOutcome {
        sotw::on_request(&mut self.types[kind], kind, request, self.target.as_deref(), self.quirks)
    }

    /// Applies an incremental request for resources of this type.
    pub fn on_delta_request(
        &mut self,
        kind: ResourceType,
        request: &mut DeltaDiscoveryRequest,
    ) -> RequestOutcome {
        delta::on_request(&mut self.types[kind], kind, request, self.target.as_deref(), self.quirks)
    }

    /// Makes a new publication the target for the client.
    pub fn on_publication(&mut self, publication: Arc<Publication>) {
        // After the previous publication only the names that changed since have to be compared.
        let is_next = self.target.as_ref().is_some_and(|target| target.seq + 1 == publication.seq);
        for kind in ResourceType::ALL {
            self.types[kind].on_publication(kind, &publication, is_next);
        }
        self.pending_endpoints.drop_resolved(&self.types, &publication.snapshot);
        self.target = Some(publication);
    }

    /// Whether the client has yet to request the endpoints of a cluster that it was sent. A caller with a clock ends
    /// this after a while with [`stop_awaiting_eds`](Self::stop_awaiting_eds); otherwise a client that has its endpoints
    /// from elsewhere would never be synced.
    pub fn is_awaiting_eds(&self) -> bool {
        !self.pending_endpoints.is_empty()
    }

    /// Stops waiting for the client to request endpoints: it seems to have them from elsewhere.
    pub fn stop_awaiting_eds(&mut self) {
        self.pending_endpoints.time_out();
    }

    /// How far the client has accepted the newest publication.
    pub fn status(&self) -> SyncStatus {
        let Some(target) = &self.target else { return SyncStatus::Pending };
        let (mut started, mut synced) = (false, self.pending_endpoints.is_empty());
        for (_, state) in self.types.iter().filter(|(_, state)| state.subscription().has_started()) {
            if state.complains() {
                return SyncStatus::Rejected(target.seq);
            }
            started = true;
            synced &= state.is_synced();
        }
        if started && synced { SyncStatus::Synced(target.seq) } else { SyncStatus::Pending }
    }

    /// Returns all responses that may be sent now, in the order to send them.
    pub fn pending_responses(&mut self, quarantine: &Quarantine) -> Vec<Response> {
        let Some(target) = self.target.clone() else {
            // Nothing is published yet. An empty response would delete what a reconnecting client still has.
            return Vec::new();
        };
        let mut responses = Vec::new();
        // Progress of one type may allow another one to continue, so repeat until there is none.
        loop {
            let mut has_progress = false;
            for kind in ResourceType::ALL {
                has_progress |= self.advance(kind, &target, quarantine, &mut responses);
            }
            if !has_progress {
                return responses;
            }
        }
    }

    /// Takes one type as far as it may go now. Returns whether anything changed.
    fn advance(
        &mut self,
        kind: ResourceType,
        target: &Publication,
        quarantine: &Quarantine,
        responses: &mut Vec<Response>,
    ) -> bool {
        if !self.resume(kind, &target.snapshot, quarantine) {
            return false;
        }
        if self.types[kind].is_idle() {
            self.types[kind].close_request();
            return false;
        }
        let Some(decision) = self.decide(kind, &target.snapshot, quarantine) else { return false };
        let committed = self.types[kind].commit(decision);
        let has_progress = committed.has_progress;
        let response = self.respond(kind, target, committed);
        let has_responded = response.is_some();
        responses.extend(response);
        has_progress || has_responded
    }

    /// Applies what a reconnecting client said it has. Returns false as long as that cannot be decided.
    fn resume(&mut self, kind: ResourceType, target: &Snapshot, quarantine: &Quarantine) -> bool {
        let state = &mut self.types[kind];
        match state.take_resume() {
            None => true,
            Some(Resume::Each(versions)) => {
                delta::resume(state, versions, target.of(kind));
                true
            }
            Some(Resume::Whole(version)) => {
                let is_decided = sotw::resume(state, kind, &version, target, quarantine);
                if !is_decided {
                    state.defer_resume(Resume::Whole(version));
                }
                is_decided
            }
        }
    }

    /// Decides what may be sent now of one type. Changes nothing. None if the whole type has to wait.
    fn decide(&self, kind: ResourceType, target: &Snapshot, quarantine: &Quarantine) -> Option<Decision> {
        let state = &self.types[kind];
        let may_push = ordering::may_push(&self.types, &self.pending_endpoints, kind);
        if !self.has_capacity(state) || !(state.has_open_request() || may_push) {
            return None;
        }
        let Difference { changed, removed, missing } = state.difference(kind, target, quarantine);
        let may_send = |one: &Arc<_>| ordering::may_send(&self.types, target, one, may_push);
        let (mut send, deferred): (Vec<_>, Vec<_>) = changed.into_iter().partition(may_send);
        if state.requests_everything() && !deferred.is_empty() {
            // This response must be complete: the client takes the first one for everything that exists.
            return None;
        }
        let needed = ordering::still_needed(&self.types, kind, &removed);
        let (kept, remove): (Vec<_>, Vec<_>) = removed.into_iter().partition(|name| needed.contains(name));
        // A name that was requested while it waits for its removal: the client gets what it keeps until then.
        send.extend(kept.iter().filter_map(|name| state.kept_version(name, quarantine)).cloned());
        let defers_request = deferred.iter().any(|one| state.requests(one.name()));
        let deferred = deferred.iter().map(|one| Arc::clone(one.name())).chain(kept).collect();
        Some(Decision { send, remove, missing, deferred, defers_request })
    }

    /// Whether the client may be sent another response of this type before it answers the last one.
    ///
    /// Changes that it did not request wait and are merged, so that a slow client gets only the newest state and a
    /// stream never has more than a few unanswered responses.
    fn has_capacity(&self, state: &TypeState) -> bool {
        match self.variant {
            XdsVariant::Sotw => state.unanswered() == 0,
            XdsVariant::Delta => {
                let limit = if state.has_open_request() { IN_FLIGHT_LIMIT } else { 1 };
                state.unanswered() < limit
            }
        }
    }

    /// Makes the response for what was committed, if the client needs one.
    fn respond(
        &mut self,
        kind: ResourceType,
        target: &Publication,
        mut committed: Committed,
    ) -> Option<Response> {
        let has_news = match self.variant {
            XdsVariant::Sotw => sotw::needs_response(kind, &committed),
            XdsVariant::Delta => delta::needs_response(&committed),
        };
        if !has_news && !committed.must_respond {
            return None;
        }
        let payload = self.payload(kind, &target.snapshot, &committed);
        let removed = match self.variant {
            // This variant cannot express a removal. Whatever referred to the resource was removed, too.
            XdsVariant::Sotw => Vec::new(),
            XdsVariant::Delta => std::mem::take(&mut committed.removed_names),
        };
        if kind == ResourceType::Cluster {
            let references = committed.resources().flat_map(|resource| resource.references());
            let endpoints = references.filter(|to| to.kind == ResourceType::Endpoints);
            self.pending_endpoints.extend(endpoints.map(|to| Arc::clone(&to.name)), &self.types);
        }
        self.last_nonce += 1;
        let nonce = self.last_nonce;
        let version = self.types[kind].record_response(nonce, target.seq, committed);
        if matches!(kind, ResourceType::Cluster | ResourceType::Endpoints) {
            self.pending_endpoints.drop_resolved(&self.types, &target.snapshot);
        }
        Some(Response { variant: self.variant, kind, version, nonce, payload, removed })
    }
    /// What the response carries: everything that the client subscribes to, or what is new.
    fn payload(&self, kind: ResourceType, target: &Arc<Snapshot>, committed: &Committed) -> Payload {
        if self.variant == XdsVariant::Sotw && kind.is_root() {
            return sotw::full_payload(&self.types[kind], kind, target);
        }
        Payload::of(committed.resources().cloned().collect(), kind, target)
    }
}
