//! A snapshot as a group of clients receives it, and how far a client has accepted it.
//!
//! Plain values: the cache (`cache.rs`) publishes them, and each stream (`stream_state.rs`) reads them.

use std::sync::Arc;

use serde::Serialize;

use crate::resource_type::{PerType, ResourceType};
use crate::snapshot::Snapshot;

/// A snapshot that was published to a group.
#[derive(Debug)]
pub struct Publication {
    /// Counts the group's publications, from 1. A stream that processed the previous publication only has to
    /// look at `changes`.
    pub seq: u64,
    /// The resources that clients should come to hold.
    pub snapshot: Arc<Snapshot>,
    /// The names that differ from the previous publication.
    pub changes: PerType<Vec<Arc<str>>>,
}

impl Publication {
    /// Returns the snapshot's string for a name, if it has one, so that streams share it. Otherwise allocates one.
    pub(crate) fn intern(publication: Option<&Self>, kind: ResourceType, name: &str) -> Arc<str> {
        let known = publication.and_then(|publication| publication.snapshot.get(kind, name));
        known.map_or_else(|| name.into(), |resource| Arc::clone(resource.name()))
    }
}

/// How far a client has accepted the newest publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncStatus {
    /// The server still has to send a response, or the client still has to answer one.
    Pending,
    /// The client accepted every resource of the publication with this number that it subscribes to.
    Synced(u64),
    /// The client rejected a change that the publication with this number has, so that the change is withheld from it.
    Rejected(u64),
}
