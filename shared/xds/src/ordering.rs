//! Make before break: what may be sent now, and what must wait for the client.
//!
//! ```text
//!   make:   clusters ─> endpoints, secrets ─> listeners ─> routes      each waits for the types before it
//!   break:  a resource is removed once nothing that the client may still use refers to it
//! ```
//!
//! A change that swaps one cluster for another is safe only in this order: the new cluster with its endpoints, then
//! the route to it, then the removal of the old cluster. If all were sent at once, requests would fail in between.
//! A requested resource waits only for the clusters that it refers to. A change that the client did not request
//! waits until the client accepted the types before it.
//!
//! **Every wait ends.** Either the client's next answer ends it, or the client rejected the resource, and then
//! only the resources that refer to it wait for its correction. The waits for a client that does not request endpoints, and
//! for one that does not answer a response with secrets, have a time limit.
//!
//! Spec: ["Eventual consistency
//! considerations"](https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations).

use std::collections::HashSet;
use std::sync::Arc;

use crate::names::NameSet;
use crate::resource::Resource;
use crate::resource_type::{PerType, ResourceType};
use crate::snapshot::Snapshot;
use crate::type_state::TypeState;

/// Whether a change of this type may be sent that the client did not request.
///
/// `awaits_secrets` says whether to wait for the answer to a response with secrets.
pub(crate) fn may_push(
    types: &PerType<TypeState>,
    pending: &PendingEndpoints,
    awaits_secrets: bool,
    kind: ResourceType,
) -> bool {
    match kind {
        // The client handles the responses of a stream in order, so endpoints may follow their clusters immediately.
        // They even have to: the client subscribes to them before it answers the clusters.
        ResourceType::Cluster | ResourceType::Endpoints | ResourceType::Secret => true,
        // A rejected resource does not hold up unrelated ones. Neither does a removal that still has to be sent, or
        // clusters and routes would wait for each other forever.
        ResourceType::Listener | ResourceType::Route => {
            let is_secret = |kind| kind == ResourceType::Secret;
            let mut earlier = types.iter().filter(|(earlier, _)| *earlier < kind && !is_secret(*earlier));
            pending.is_empty() && !awaits_secrets && earlier.all(|(_, state)| state.is_acknowledged())
        }
    }
}

/// Whether a resource may be sent now, as far as the clusters that it refers to are concerned. `may_push` says
/// whether its type may be sent without a request.
pub(crate) fn may_send(
    types: &PerType<TypeState>,
    target: &Snapshot,
    resource: &Resource,
    may_push: bool,
) -> bool {
    let kind = resource.kind();
    if !matches!(kind, ResourceType::Listener | ResourceType::Route) {
        return true;
    }
    if types[kind].requests(resource.name()) {
        !waits_for_cluster(types, target, resource)
    } else {
        may_push && has_its_clusters(types, target, resource)
    }
}

/// Whether the client has the clusters that this resource refers to and that the client subscribes to.
fn has_its_clusters(types: &PerType<TypeState>, target: &Snapshot, resource: &Resource) -> bool {
    let clusters = &types[ResourceType::Cluster];
    needed_clusters(types, target, resource).all(|name| clusters.was_sent(name))
}

/// Whether a cluster that this resource refers to is about to be sent, and has to be sent first.
fn waits_for_cluster(types: &PerType<TypeState>, target: &Snapshot, resource: &Resource) -> bool {
    let clusters = &types[ResourceType::Cluster];
    needed_clusters(types, target, resource).any(|name| clusters.is_dirty(name) && !clusters.was_sent(name))
}

/// The clusters that `resource` refers to and that the client subscribes to. The client has a cluster that is not in
/// the snapshot from elsewhere, and will request one that it does not subscribe to.
fn needed_clusters<'a>(
    types: &'a PerType<TypeState>,
    target: &'a Snapshot,
    resource: &'a Resource,
) -> impl Iterator<Item = &'a str> {
    let clusters = types[ResourceType::Cluster].subscription();
    let referenced = resource.references().iter().filter(|to| to.kind == ResourceType::Cluster);
    let ours = referenced.filter(|to| clusters.covers(&to.name) && target.get(to.kind, &to.name).is_some());
    ours.map(|to| &*to.name)
}

/// The names among `names` that the client may still need: a resource that it uses, or used before a response
/// that it has not answered, refers to them.
pub(crate) fn still_needed(types: &PerType<TypeState>, kind: ResourceType, names: &[Arc<str>]) -> NameSet {
    use ResourceType::{Cluster, Endpoints, Listener, Route, Secret};
    let referrers: &[ResourceType] = match kind {
        Listener => &[],
        Route => &[Listener],
        Cluster => &[Listener, Route],
        Endpoints => &[Cluster],
        Secret => &[Cluster, Listener],
    };
    if names.is_empty() || referrers.is_empty() {
        return NameSet::default();
    }
    if referrers.iter().any(|referrer| types[*referrer].has_unknown_versions()) {
        return names.iter().cloned().collect();
    }
    let resources = referrers.iter().flat_map(|referrer| types[*referrer].in_use());
    let references = resources.flat_map(|resource| resource.references()).filter(|to| to.kind == kind);
    let used: HashSet<&str> = references.map(|to| &*to.name).collect();
    names.iter().filter(|name| used.contains(&***name)).cloned().collect()
}

/// Endpoints of clusters that were just sent, which the client has not requested yet.
///
/// A client requests them automatically, but may take a moment. Until it has them, the cluster is not warm.
#[derive(Debug, Default)]
pub(crate) struct PendingEndpoints {
    names: NameSet,
    /// The client did not request them in time: it seems to have its endpoints from elsewhere.
    has_timed_out: bool,
}

impl PendingEndpoints {
    /// Waits for these too, unless the client never requests endpoints.
    pub(crate) fn extend(&mut self, names: impl IntoIterator<Item = Arc<str>>, types: &PerType<TypeState>) {
        if !self.has_timed_out || types[ResourceType::Endpoints].subscription().has_started() {
            self.names.extend(names);
        }
    }

    /// Stops waiting for names that the client requested, and for names that no longer exist.
    ///
    /// A requested name is sent, or was rejected; either way there is nothing left to wait for.
    pub(crate) fn drop_resolved(&mut self, types: &PerType<TypeState>, target: &Snapshot) {
        let exists = |name: &str| target.get(ResourceType::Endpoints, name).is_some();
        let requested = types[ResourceType::Endpoints].subscription();
        self.names.retain(|name| exists(name) && !requested.covers(name));
        if self.names.is_empty() {
            // An empty set keeps its largest capacity, which each of a thousand streams would hold for nothing.
            self.names = NameSet::default();
        }
    }

    /// Stops waiting.
    pub(crate) fn time_out(&mut self) {
        self.names = NameSet::default();
        self.has_timed_out = true;
    }

    /// Whether nothing is waited for.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
