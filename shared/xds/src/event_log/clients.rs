//! The clients that are connected, and the status of each.
//!
//! Derived from events, but kept apart from them: a client that has been silent for long is still connected.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::event::{Event, EventKind};
use crate::publication::SyncStatus;

/// A client whose stream is open, and its status, however long ago its last request was.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    /// Its node id.
    pub node: Arc<str>,
    /// The number of its stream.
    pub stream: u64,
    /// Whether the stream uses the delta variant.
    pub delta: bool,
    /// How far it has accepted the newest publication.
    pub status: SyncStatus,
    /// The last event of each type, by its discovery service.
    pub types: BTreeMap<String, String>,
}

/// The clients whose streams are open, by the number of their stream.
#[derive(Debug, Default)]
pub(super) struct Clients(BTreeMap<u64, Client>);

impl Clients {
    /// The clients, in the order in which they connected.
    pub(super) fn list(&self) -> Vec<Client> {
        self.0.values().cloned().collect()
    }

    /// Sets a client's status.
    pub(super) fn set_status(&mut self, stream: u64, status: SyncStatus) {
        if let Some(client) = self.0.get_mut(&stream) {
            client.status = status;
        }
    }

    /// Applies an event to its client.
    pub(super) fn apply(&mut self, event: &Event) {
        let last = match &event.kind {
            EventKind::Opened { .. } => {
                let (node, stream, delta) = (Arc::clone(&event.node), event.stream, event.delta);
                let client =
                    Client { node, stream, delta, status: SyncStatus::Pending, types: BTreeMap::new() };
                self.0.insert(stream, client);
                return;
            }
            EventKind::Closed => {
                self.0.remove(&event.stream);
                return;
            }
            EventKind::Request { .. } => "requested".to_owned(),
            EventKind::Response { version, .. } => format!("sent {version}"),
            EventKind::Ack { version, .. } => format!("accepted {version}"),
            EventKind::Nack { message, .. } => format!("rejected: {message}"),
            EventKind::Stale { .. } | EventKind::UnknownType => return,
        };
        if let Some(client) = self.0.get_mut(&event.stream) {
            client.types.insert(event.type_name.clone(), last);
        }
    }
}
