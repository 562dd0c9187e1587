//! State of the world: each request lists all names, and each response has one version for all of a type.
//!
//! Four rules distinguish this variant: a name that a request leaves out is unsubscribed; a cluster or listener that a
//! response leaves out is deleted; resources of other types cannot be deleted; and the server ignores an answer to a
//! response that a newer one has replaced.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;

use crate::client_quirks::ClientQuirks;
use crate::publication::Publication;
use crate::resource::Resource;
use crate::resource_type::ResourceType;
use crate::response::{Payload, RequestOutcome};
use crate::snapshot::{Resources, Snapshot};
use crate::subscription::SUBSCRIPTION_LIMIT;
use crate::type_state::sending::Committed;
use crate::type_state::{Resume, TypeState};
use crate::version::Version;

/// Applies a request to the state of its type.
pub(crate) fn on_request(
    state: &mut TypeState,
    kind: ResourceType,
    request: &DiscoveryRequest,
    target: Option<&Publication>,
    quirks: ClientQuirks,
) -> RequestOutcome {
    let is_first = !state.subscription().has_started();
    let Some(mut outcome) = answer(state, kind, request, target, is_first) else {
        state.remember_omitted(&request.resource_names);
        return RequestOutcome::Stale;
    };
    let intern = |name: &str| Publication::intern(target, kind, name);
    let change = state.replace_subscription(&request.resource_names, quirks.legacy_wildcard, intern);
    if state.subscription().size() > SUBSCRIPTION_LIMIT {
        return RequestOutcome::LimitExceeded;
    }
    if let RequestOutcome::Ack { subscribes, .. } = &mut outcome {
        *subscribes = change.is_change();
    }
    if change.wildcard_removed || !change.removed.is_empty() {
        state.forget_unsubscribed();
    }
    if is_first && !request.version_info.is_empty() {
        state.begin_resume(Resume::Whole(request.version_info.clone()));
        return outcome;
    }
    // A name that is new in the list needs a response, even if the wildcard already covered it.
    change.added.into_iter().for_each(|name| state.mark_requested(name));
    state.mark_omitted_requested();
    if change.wildcard_added {
        // An empty snapshot needs a response too, or the client would wait forever.
        state.mark_everything_requested(state.must_respond() || kind.is_root());
    }
    outcome
}

/// Applies the answer in a request. None if it answers a response that a newer one has replaced.
fn answer(
    state: &mut TypeState,
    kind: ResourceType,
    request: &DiscoveryRequest,
    target: Option<&Publication>,
    is_first: bool,
) -> Option<RequestOutcome> {
    let nonce = request.response_nonce.as_str();
    // A nonce in the first request is one of an earlier stream, and is not valid any more.
    if is_first || nonce.is_empty() {
        return Some(RequestOutcome::Subscription);
    }
    if nonce.parse() != Ok(state.nonce()) {
        return None;
    }
    if let Some(error) = &request.error_detail {
        let newest = target.map(|target| (target.seq, target.snapshot.of(kind)));
        let rejected = state.on_nack(state.nonce(), newest, kind.is_root());
        return Some(RequestOutcome::Nack { message: error.message.clone(), rejected });
    }
    let accepted = state.on_ack(state.nonce());
    let ack = |version| RequestOutcome::Ack { version, subscribes: false };
    Some(accepted.map_or(RequestOutcome::Subscription, ack))
}

/// Applies what a reconnecting client said it has: the version of everything. If the resources that it would be sent
/// have that version, it has all of them, because the version is a hash of names and content.
pub(crate) fn resume(state: &mut TypeState, kind: ResourceType, version: &str, resources: &Resources) {
    let subscribed: Vec<Arc<Resource>> = if state.subscription().is_wildcard() {
        resources.iter().cloned().collect()
    } else {
        state.subscription().names().filter_map(|name| resources.get(name)).cloned().collect()
    };
    let sum = subscribed.iter().fold(Version::NONE, |sum, one| sum.with(one.version()));
    if sum.is_text(version) {
        subscribed.into_iter().for_each(|resource| state.confirm(resource));
    } else {
        state.mark_unknown_version(kind.is_root());
    }
}

/// Whether a change needs a response: new resources always, removals only of types that can be deleted.
pub(crate) fn needs_response(kind: ResourceType, committed: &Committed) -> bool {
    committed.resources().len() > 0 || (kind.is_root() && !committed.removed_names.is_empty())
}

/// Everything that the client subscribes to of a type, as a response of a root type requires.
pub(crate) fn full_payload(state: &TypeState, kind: ResourceType, target: &Arc<Snapshot>) -> Payload {
    let all = target.of(kind);
    if state.version() == all.version() && state.sent().count() == all.len() {
        return Payload::Everything(Arc::clone(target));
    }
    Payload::These(state.sent().cloned().collect())
}
