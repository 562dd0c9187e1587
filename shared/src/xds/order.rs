//! Make before break: which types may be sent now, and which must wait for the client.
//!
//! ```text
//!   make:   clusters ─> endpoints, secrets ─> listeners ─> routes      each waits for the ones before
//!   break:  routes, listeners settled ─> clusters taken away
//! ```
//!
//! A change that swaps one cluster for another is safe only in this order: the new cluster with its
//! endpoints, then the route to it, then the old cluster's end. Sent at once, requests fail between.
//! What a client *asks for* is never held back; only what we would send unasked is.
//!
//! Source: "Eventual consistency considerations" in Envoy's xDS protocol.

use std::sync::Arc;

use super::resource::{PerType, ResourceType};
use super::track::{Held, Track};

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

/// Whether the client took over all that was new. What still has to be taken away is left out of
/// account, or clusters and routes would wait for each other for ever.
fn is_made(track: &Track) -> bool {
    track.in_flight.is_empty() && track.refused.is_empty() && !track.must_answer
}

/// Whether something of this type may be taken away now: what might point to it has to be settled.
pub fn may_break(tracks: &PerType<Track>, kind: ResourceType) -> bool {
    use ResourceType::{Cluster, Endpoints, Listener, Route, Secret};
    let referrers: &[ResourceType] = match kind {
        Listener => &[],
        Route => &[Listener],
        Cluster => &[Listener, Route],
        Endpoints => &[Cluster],
        Secret => &[Cluster, Listener],
    };
    referrers.iter().all(|kind| tracks[*kind].is_settled())
}

/// Endpoints that the client has not asked for yet, of clusters that it was just sent.
///
/// A client asks for them by itself, but may take a moment to; until then the cluster is not warm.
#[derive(Debug, Default)]
pub struct Awaited(Vec<Arc<str>>);

impl Awaited {
    /// Waits for these too.
    pub fn extend(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        self.0.extend(names);
    }

    /// Stops waiting for what has come, and for what is no longer there.
    pub fn settle(&mut self, tracks: &PerType<Track>, exists: impl Fn(&str) -> bool) {
        self.0.retain(|name| exists(name) && !has_come(tracks, name));
    }

    /// Stops waiting.
    pub fn give_up(&mut self) {
        self.0.clear();
    }

    /// Whether nothing is waited for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn has_come(tracks: &PerType<Track>, name: &str) -> bool {
    matches!(tracks[ResourceType::Endpoints].holds(name), Some(Held::Sent(_)))
}
