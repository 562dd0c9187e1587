//! Make before break: what may be sent now, and what must wait for the client.
//!
//! ```text
//!   make:   clusters ─> endpoints, secrets ─> listeners ─> routes      each waits for the ones before
//!   break:  nothing that the client may still work with refers to it ─> taken away
//! ```
//!
//! A change that swaps one cluster for another is safe only in this order: the new cluster with its
//! endpoints, then the route to it, then the old cluster's end. Sent at once, requests fail between.
//! What a client *asks for* waits for nothing but the turn of the clusters that it needs; what we
//! would send unasked waits until the client accepted them.
//!
//! **Nothing here waits for ever.** Whatever is waited for either comes with the client's next answer,
//! or was refused, and then only the resources that need it wait for its correction.
//!
//! Source: "Eventual consistency considerations" in Envoy's xDS protocol.

use std::collections::HashSet;
use std::sync::Arc;

use super::names::NameSet;
use super::resource::{PerType, Resource, ResourceType};
use super::snapshot::Snapshot;
use super::track::Track;

/// Whether a change of this type may be sent unasked.
pub fn may_make(tracks: &PerType<Track>, awaited: &Awaited, kind: ResourceType) -> bool {
    match kind {
        // The client handles what comes on a stream in order, so endpoints may follow their
        // clusters at once. They even have to: it subscribes to them before it answers.
        ResourceType::Cluster | ResourceType::Endpoints | ResourceType::Secret => true,
        ResourceType::Listener | ResourceType::Route => {
            let mut before = tracks.iter().filter(|(earlier, _)| *earlier < kind);
            awaited.is_empty() && before.all(|(_, track)| is_made(track))
        }
    }
}

/// Whether the client took over all that was new. What it refused does not count: its neighbours have
/// nothing to do with it. Neither does what still has to be taken away, or clusters and routes would
/// wait for each other for ever.
fn is_made(track: &Track) -> bool {
    track.in_flight.is_empty() && !track.must_answer
}

/// Whether the client has the clusters that this resource sends calls to, as far as it takes them from us.
pub fn has_its_clusters(tracks: &PerType<Track>, target: &Snapshot, resource: &Resource) -> bool {
    let clusters = &tracks[ResourceType::Cluster];
    needed(tracks, target, resource)
        .all(|name| clusters.holds(name).is_some_and(|held| held.resource().is_some()))
}

/// Whether a cluster that this resource sends calls to is about to be sent, and has to come first.
pub fn waits_for_a_cluster(tracks: &PerType<Track>, target: &Snapshot, resource: &Resource) -> bool {
    let clusters = &tracks[ResourceType::Cluster];
    // A client that reconnected is not sent clusters as long as it is safer to leave it what it has.
    let silent = clusters.resume.is_some();
    needed(tracks, target, resource).any(|name| {
        !silent
            && clusters.stale.has(name)
            && clusters.holds(name).is_none_or(|held| held.resource().is_none())
    })
}

/// The clusters that `resource` refers to and that the client subscribes to. One that is not in the
/// snapshot is known to clients from elsewhere, and one that is not subscribed to will be asked for.
fn needed<'a>(
    tracks: &'a PerType<Track>,
    target: &'a Snapshot,
    resource: &'a Resource,
) -> impl Iterator<Item = &'a str> {
    let clusters = &tracks[ResourceType::Cluster].subscription;
    let referred = resource.refers().iter().filter(|to| to.kind == ResourceType::Cluster);
    let ours = referred.filter(|to| clusters.wants(&to.name) && target.get(to.kind, &to.name).is_some());
    ours.map(|to| &*to.name)
}

/// Which of the names of this type the client may still need: something that it works with, or worked
/// with before a response that it has not answered, refers to them.
pub fn still_needed(tracks: &PerType<Track>, kind: ResourceType, names: &[Arc<str>]) -> NameSet {
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
    if referrers.iter().any(|referrer| tracks[*referrer].has_something_unknown()) {
        return names.iter().cloned().collect();
    }
    let resources = referrers.iter().flat_map(|referrer| tracks[*referrer].in_use());
    let refers = resources.flat_map(|resource| resource.refers()).filter(|to| to.kind == kind);
    let used: HashSet<&str> = refers.map(|to| &*to.name).collect();
    names.iter().filter(|name| used.contains(&***name)).cloned().collect()
}

/// Endpoints that the client has not asked for yet, of clusters that it was just sent.
///
/// A client asks for them by itself, but may take a moment to; until then the cluster is not warm.
#[derive(Debug, Default)]
pub struct Awaited {
    names: NameSet,
    /// The client was waited for in vain: it seems to have its endpoints from elsewhere.
    in_vain: bool,
}

impl Awaited {
    /// Waits for these too, unless the client never asks for endpoints.
    pub fn extend(&mut self, names: impl IntoIterator<Item = Arc<str>>, tracks: &PerType<Track>) {
        if !self.in_vain || tracks[ResourceType::Endpoints].subscription.has_begun() {
            self.names.extend(names);
        }
    }

    /// Stops waiting for what was asked for, and for what is no longer there.
    ///
    /// What was asked for is sent, or was refused; either way there is nothing left to wait for.
    pub fn settle(&mut self, tracks: &PerType<Track>, exists: impl Fn(&str) -> bool) {
        let asked_for = &tracks[ResourceType::Endpoints].subscription;
        self.names.retain(|name| exists(name) && !asked_for.wants(name));
        self.free();
    }

    /// A set keeps the room of its largest day, which each of a thousand streams would hold for nothing.
    fn free(&mut self) {
        if self.names.is_empty() {
            self.names = NameSet::default();
        }
    }

    /// Stops waiting.
    pub fn give_up(&mut self) {
        self.names = NameSet::default();
        self.in_vain = true;
    }

    /// Whether nothing is waited for.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
