//! The state of one client's stream, without the network.
//!
//! ```text
//!   on_sotw_request / on_delta_request (a request) ─┐
//!   on_publication (a new snapshot)                 ─┼─> state ──> pending_responses() ──> responses, in order
//!   stop_awaiting_eds, _secrets (timers)            ─┘
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
use crate::publication::{Publication, SyncStatus};
use crate::resource::Resource;
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
    /// Listeners and routes do not wait for answers to responses with secrets up to this nonce.
    secrets_timed_out: u64,
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
            secrets_timed_out: 0,
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
            let is_full = self.is_full(kind);
            self.types[kind].on_publication(kind, &publication, is_next, is_full);
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

    /// The nonce of the response with secrets that listeners and routes wait for. A caller with a clock ends this after
    /// a while with [`stop_awaiting_secrets`](Self::stop_awaiting_secrets).
    pub fn awaited_secrets(&self) -> Option<u64> {
        let oldest = self.types[ResourceType::Secret].oldest_unanswered()?;
        (oldest > self.secrets_timed_out).then_some(oldest)
    }

    /// Listeners and routes no longer wait for answers to the responses with secrets that were sent so far.
    pub fn stop_awaiting_secrets(&mut self) {
        self.secrets_timed_out = self.types[ResourceType::Secret].nonce();
    }

    /// How far the client has accepted the newest publication.
    pub fn status(&self) -> SyncStatus {
        let Some(target) = &self.target else { return SyncStatus::Pending };
        let (mut started, mut synced) = (false, self.pending_endpoints.is_empty());
        for (_, state) in self.types.iter().filter(|(_, state)| state.subscription().has_started()) {
            if state.has_rejected() {
                return SyncStatus::Rejected(target.seq);
            }
            started = true;
            synced &= state.is_synced();
        }
        if started && synced { SyncStatus::Synced(target.seq) } else { SyncStatus::Pending }
    }

    /// The types of which the client rejected a change that the newest publication has.
    pub fn rejected_types(&self) -> PerType<bool> {
        PerType::from_fn(|kind| self.types[kind].has_rejected())
    }

    /// Returns all responses that may be sent now, in the order to send them.
    pub fn pending_responses(&mut self) -> Vec<Response> {
        let Some(target) = self.target.clone() else {
            // Nothing is published yet. An empty response would delete what a reconnecting client still has.
            return Vec::new();
        };
        let mut responses = Vec::new();
        // Progress of one type may allow another one to continue, so repeat until there is none.
        loop {
            let mut has_progress = false;
            for kind in ResourceType::ALL {
                has_progress |= self.advance(kind, &target, &mut responses);
            }
            if !has_progress {
                return responses;
            }
        }
    }

    /// Takes one type as far as it may go now. Returns whether anything changed.
    fn advance(&mut self, kind: ResourceType, target: &Publication, responses: &mut Vec<Response>) -> bool {
        self.resume(kind, &target.snapshot);
        if self.types[kind].is_idle() {
            self.types[kind].close_request();
            return false;
        }
        let Some(decision) = self.decide(kind, &target.snapshot) else { return false };
        let committed = self.types[kind].commit(decision);
        let has_progress = committed.has_progress;
        let response = self.respond(kind, target, committed);
        let has_responded = response.is_some();
        responses.extend(response);
        has_progress || has_responded
    }

    /// Applies what a reconnecting client said it has.
    fn resume(&mut self, kind: ResourceType, target: &Snapshot) {
        let state = &mut self.types[kind];
        match state.take_resume() {
            None => {}
            Some(Resume::Each(versions)) => delta::resume(state, versions, target.of(kind)),
            Some(Resume::Whole(version)) => sotw::resume(state, kind, &version, target.of(kind)),
        }
    }

    /// Decides what may be sent now of one type. Changes nothing. None if the whole type has to wait.
    fn decide(&self, kind: ResourceType, target: &Snapshot) -> Option<Decision> {
        let state = &self.types[kind];
        let awaits_secrets = self.awaited_secrets().is_some();
        let may_push = ordering::may_push(&self.types, &self.pending_endpoints, awaits_secrets, kind);
        if !self.has_capacity(state) || !(state.has_open_request() || may_push) {
            return None;
        }
        let Difference { changed, removed, mut missing } = state.difference(target.of(kind));
        let may_send = |one: &Arc<_>| ordering::may_send(&self.types, target, one, may_push);
        let (mut send, waiting): (Vec<_>, Vec<_>) = changed.into_iter().partition(may_send);
        if state.requests_everything() && !waiting.is_empty() {
            // This response must be complete: the client takes the first one for everything that exists.
            return None;
        }
        let needed = ordering::still_needed(&self.types, kind, &removed);
        // A response that must be complete leaves out what the client did not accept and the snapshot no longer has.
        let may_keep = |name: &Arc<str>| !self.is_full(kind) || state.was_sent(name);
        let (kept, mut remove): (Vec<_>, Vec<_>) =
            removed.into_iter().partition(|name| needed.contains(name) && may_keep(name));
        let mut deferred: Vec<_> = waiting.iter().map(|one| Arc::clone(one.name())).collect();
        // A name that was requested while it waits for its removal: the client gets what it keeps until then.
        send.extend(kept.iter().filter_map(|name| state.kept_version(name)).cloned());
        let has_removals = !(remove.is_empty() && missing.is_empty());
        let has_news = !send.is_empty() || has_removals || state.must_respond();
        if self.is_full(kind) && has_news {
            send.extend(state.rejected_versions(target.of(kind)).filter(|one| may_send(one)).cloned());
            let again: Vec<_> = state.rejected_removals(target.of(kind)).cloned().collect();
            let needed = ordering::still_needed(&self.types, kind, &again);
            let (wait, again): (Vec<_>, Vec<_>) =
                again.into_iter().partition(|name| needed.contains(name) && may_keep(name));
            remove.extend(again);
            deferred.extend(wait);
            // It carries what waits, too, and the client's answer confirms that.
            send.extend(deferred.iter().chain(&kept).filter_map(|name| state.unconfirmed(name)).cloned());
        } else if !self.is_full(kind) {
            deferred.extend(isolate_retry(state, &mut send, has_removals));
        }
        if self.variant == XdsVariant::Delta {
            deferred.extend(delta::split_off_excess(&mut send, &mut remove, &mut missing));
        }
        let defers_request = deferred.iter().any(|name| state.requests(name));
        deferred.extend(kept);
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
            // A removal that needs no response: the client stopped using the resource with what referred to it.
            self.types[kind].drop_possibly_held(&committed.removed_names);
            return None;
        }
        let payload = self.payload(kind, &target.snapshot, &committed);
        let removed = match self.variant {
            // This variant cannot express a removal. Whatever referred to the resource was removed, too.
            XdsVariant::Sotw => Vec::new(),
            XdsVariant::Delta => std::mem::take(&mut committed.removed_names),
        };
        if self.variant == XdsVariant::Sotw && !kind.is_root() {
            self.types[kind].drop_possibly_held(&committed.removed_names);
            committed.drop_removals();
        }
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
        if self.is_full(kind) {
            return sotw::full_payload(&self.types[kind], kind, target);
        }
        Payload::of(committed.resources().cloned().collect(), kind, target)
    }

    /// Whether a response of this type must be complete, because leaving a resource out deletes it.
    fn is_full(&self, kind: ResourceType) -> bool {
        self.variant == XdsVariant::Sotw && kind.is_root()
    }
}

/// Takes out of `send` what has to wait so that each resource that was rejected in a response with others is sent
/// alone. Resources without such a past go first.
fn isolate_retry(state: &TypeState, send: &mut Vec<Arc<Resource>>, has_removals: bool) -> Vec<Arc<str>> {
    let mut alone: Vec<_> = send.extract_if(.., |one| state.must_be_alone(one.name())).collect();
    if send.is_empty() && !has_removals {
        // By name, so that the order is the same in every run.
        let first = (0..alone.len()).min_by(|a, b| alone[*a].name().cmp(alone[*b].name()));
        send.extend(first.map(|at| alone.swap_remove(at)));
    }
    alone.iter().map(|one| Arc::clone(one.name())).collect()
}
