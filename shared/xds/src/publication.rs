//! A snapshot as a group of clients receives it, and how far a client has accepted it.
//!
//! Plain values: the cache (`cache.rs`) publishes them, and each stream (`stream_state.rs`) reads them.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use crate::resource_type::{PerType, ResourceType};
use crate::snapshot::Snapshot;
use crate::version::Version;

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

/// The versions that clients of a group rejected. They are not sent to any client of the group again.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    /// The rejected versions.
    pub versions: HashSet<Version>,
    /// The last snapshot that all clients accepted. Its versions replace the rejected ones for a new client.
    pub accepted: Option<Arc<Snapshot>>,
}

impl Quarantine {
    /// Whether the snapshot has a rejected version, so that no client is sent all of it.
    ///
    /// Such a snapshot never counts as accepted: its clients only accepted the part of it that they were sent.
    pub fn bars(&self, snapshot: &Snapshot) -> bool {
        let is_rejected = |version| self.versions.contains(&version);
        !self.versions.is_empty() && snapshot.resources().any(|resource| is_rejected(resource.version()))
    }
}

/// How far a client has accepted the newest publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncStatus {
    /// The server still has to send a response, or the client still has to answer one.
    Pending,
    /// The client accepted every resource of the publication with this number that it subscribes to, except versions that
    /// its group rejected.
    Synced(u64),
    /// The client rejected a resource of the publication with this number.
    Rejected(u64),
}
