//! Incremental: requests add and remove names, and responses carry only what changed, each resource with its own
//! version.
//!
//! Four rules distinguish this variant: responses list names that were removed or never existed; every request
//! counts, whichever response it answers; a name that is subscribed to again is sent again; and a reconnecting
//! client lists the versions that it still has.

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use crate::client_quirks::ClientQuirks;
use crate::publication::Publication;
use crate::resource::Resource;
use crate::resource_type::ResourceType;
use crate::response::RequestOutcome;
use crate::snapshot::Resources;
use crate::subscription::{SUBSCRIPTION_LIMIT, SubscriptionChange};
use crate::type_state::sending::Committed;
use crate::type_state::{Resume, TypeState};
use crate::wire::string_len;

/// How many bytes of resources and names a message has at most. gRPC clients accept messages of up to 4 MiB by default.
const MESSAGE_LIMIT: usize = 2_990_000;

/// Applies a request to the state of its type. Takes the list of versions out of it.
pub(crate) fn on_request(
    state: &mut TypeState,
    kind: ResourceType,
    request: &mut DeltaDiscoveryRequest,
    target: Option<&Publication>,
    quirks: ClientQuirks,
) -> RequestOutcome {
    let is_first = !state.subscription().has_started();
    let mut outcome = answer(state, kind, request, target);
    let change = state.update_subscription(
        &request.resource_names_subscribe,
        &request.resource_names_unsubscribe,
        quirks.legacy_wildcard,
        |name| Publication::intern(target, kind, name),
    );
    if state.subscription().size() > SUBSCRIPTION_LIMIT {
        return RequestOutcome::LimitExceeded;
    }
    if let RequestOutcome::Ack { subscribes, .. } = &mut outcome {
        *subscribes = change.is_change();
    }
    let wildcard_added = change.wildcard_added;
    apply_names(state, change);
    let initial_versions = std::mem::take(&mut request.initial_resource_versions);
    if wildcard_added {
        state.mark_in_flight_unconfirmed();
        // An empty snapshot needs a response too, except if the client already has one.
        state.mark_everything_requested(initial_versions.is_empty());
    }
    if is_first && !initial_versions.is_empty() {
        state.begin_resume(Resume::Each(initial_versions));
    }
    outcome
}

/// Applies the answer in a request.
fn answer(
    state: &mut TypeState,
    kind: ResourceType,
    request: &DeltaDiscoveryRequest,
    target: Option<&Publication>,
) -> RequestOutcome {
    match (request.response_nonce.parse::<u64>(), &request.error_detail) {
        // Without a valid nonce it is a spontaneous change of the subscription.
        (Err(_), None) => RequestOutcome::Subscription,
        (Ok(nonce), None) => {
            let ack = |version| RequestOutcome::Ack { version, subscribes: false };
            state.on_ack(nonce).map_or(RequestOutcome::Stale, ack)
        }
        (nonce, Some(error)) => {
            let newest = target.map(|target| (target.seq, target.snapshot.of(kind)));
            let rejected = nonce.ok().and_then(|nonce| state.on_nack(nonce, newest, false));
            RequestOutcome::Nack { message: error.message.clone(), rejected }
        }
    }
}

/// Applies the names that a request added and removed.
fn apply_names(state: &mut TypeState, change: SubscriptionChange) {
    if change.wildcard_removed {
        state.forget_unsubscribed();
    }
    for name in change.removed {
        if state.subscription().is_wildcard() {
            // `*` still covers it. The client cannot know whether it may keep the resource, so it needs a response.
            state.mark_requested(name);
        } else {
            state.forget(&name);
        }
    }
    state.reserve(change.added.len());
    for name in change.added {
        // If both lists of a request have a name, it is unsubscribed.
        if state.subscription().covers(&name) {
            state.mark_requested(name);
        }
    }
}

/// Applies what a reconnecting client said it has: the version of each resource.
pub(crate) fn resume(state: &mut TypeState, versions: HashMap<String, String>, resources: &Resources) {
    for (name, version) in versions {
        if !state.subscription().covers(&name) {
            continue;
        }
        match resources.get(&name) {
            Some(resource) if resource.version().is_text(&version) => state.confirm(resource.clone()),
            // Another version, or removed in the meantime: both need a response.
            _ => state.mark_unknown(name.into()),
        }
    }
    state.mark_all_dirty();
}

/// Whether a change needs a response: new resources and removals both do.
pub(crate) fn needs_response(committed: &Committed) -> bool {
    committed.resources().len() > 0 || !committed.removed_names.is_empty()
}

/// Takes out what does not fit into one message, to be sent in the next ones. A resource that is larger than
/// [`MESSAGE_LIMIT`] gets a separate message.
pub(crate) fn split_off_excess(
    send: &mut Vec<Arc<Resource>>,
    remove: &mut Vec<Arc<str>>,
    missing: &mut Vec<Arc<str>>,
) -> Vec<Arc<str>> {
    let mut size = 0;
    let mut fits = |bytes: usize| {
        let is_first = size == 0;
        size += bytes;
        is_first || size <= MESSAGE_LIMIT
    };
    let sent = send.iter().position(|one| !fits(one.delta_field().len())).unwrap_or(send.len());
    let mut excess: Vec<_> = send.split_off(sent).iter().map(|one| Arc::clone(one.name())).collect();
    for names in [remove, missing] {
        let sent = names.iter().position(|name| !fits(string_len(name))).unwrap_or(names.len());
        excess.extend(names.split_off(sent));
    }
    excess
}
