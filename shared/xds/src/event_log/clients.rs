//! The clients that are connected, and the status of each.
//!
//! Derived from events, but kept apart from them: a client that has been silent for long is still connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::event::{Event, EventKind, since_1970};
use super::name_list::NameList;
use crate::publication::SyncStatus;
use crate::resource_type::{PerType, ResourceType};

const ACCEPTED: &str = "accepted ";
const IN_SYNC: &str = "in sync";

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
    /// The last event of each type, by its discovery service; `in sync` if the client has the newest publication
    /// although it did not accept a response since.
    pub types: BTreeMap<String, String>,
    /// The client's rejection of each type, by its discovery service, as long as the newest publication has a change
    /// that the client rejected. Such a change is withheld from the client.
    pub rejections: BTreeMap<String, Rejection>,
}

/// A client's rejection of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// When the client rejected it; written as seconds since 1970.
    #[serde(serialize_with = "since_1970")]
    pub since: SystemTime,
    /// The version of the response.
    pub version: String,
    /// The nonce of the response.
    pub nonce: String,
    /// The resources that the response added, changed or removed.
    pub names: NameList,
    /// The client's error message.
    pub message: String,
}

/// The clients whose streams are open, by the number of their stream.
#[derive(Debug, Default)]
pub(super) struct Clients(BTreeMap<u64, Client>);

impl Clients {
    /// The clients, in the order in which they connected.
    pub(super) fn list(&self) -> Vec<Client> {
        self.0.values().cloned().collect()
    }

    /// Sets a client's status, and the types of which it rejects something.
    pub(super) fn set_status(&mut self, stream: u64, status: SyncStatus, rejected: &PerType<bool>) {
        let Some(client) = self.0.get_mut(&stream) else { return };
        client.status = status;
        let is_rejected = |service: &str| {
            rejected.iter().any(|(kind, is_rejected)| *is_rejected && kind.service() == service)
        };
        client.rejections.retain(|service, _| is_rejected(service));
        if matches!(status, SyncStatus::Synced(_)) {
            let is_served = |service: &str| ResourceType::ALL.iter().any(|kind| kind.service() == service);
            let types = client.types.iter_mut().filter(|(service, _)| is_served(service));
            types
                .filter(|(_, last)| !last.starts_with(ACCEPTED))
                .for_each(|(_, last)| *last = IN_SYNC.to_owned());
        }
    }

    /// Applies an event to its client.
    pub(super) fn apply(&mut self, event: &Event) {
        let last = match &event.kind {
            EventKind::Opened { .. } => {
                let client = Client {
                    node: Arc::clone(&event.node),
                    stream: event.stream,
                    delta: event.delta,
                    status: SyncStatus::Pending,
                    types: BTreeMap::new(),
                    rejections: BTreeMap::new(),
                };
                self.0.insert(event.stream, client);
                return;
            }
            EventKind::Closed => {
                self.0.remove(&event.stream);
                return;
            }
            EventKind::Request { .. } => "requested".to_owned(),
            EventKind::Response { version, .. } => format!("sent {version}"),
            EventKind::Ack { version, .. } => format!("{ACCEPTED}{version}"),
            EventKind::Nack { message, .. } => format!("rejected: {message}"),
            EventKind::LargeResponse { .. } | EventKind::Stale { .. } | EventKind::UnknownType => return,
        };
        let Some(client) = self.0.get_mut(&event.stream) else { return };
        client.types.insert(event.type_name.clone(), last);
        if let EventKind::Nack { version, nonce, names, message } = &event.kind
            && !version.is_empty()
        {
            let rejection = Rejection {
                since: event.time,
                version: version.clone(),
                nonce: nonce.clone(),
                names: names.clone(),
                message: message.clone(),
            };
            client.rejections.insert(event.type_name.clone(), rejection);
        }
    }
}
