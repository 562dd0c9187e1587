//! Who is connected, and how each stands.
//!
//! Told from events, but not from those that are kept: a client that fell silent is still there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::super::cache::Standing;
use super::{Dialogue, Event, Said, lock};

/// A client whose stream is open, and how it stands: what is known of it however long ago it last spoke.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    /// Its node id.
    pub node: Arc<str>,
    /// Its stream.
    pub stream: u64,
    /// Whether that speaks delta.
    pub delta: bool,
    /// How it stands to what is published.
    pub standing: Standing,
    /// For each type, by its discovery service, what was said last.
    pub types: BTreeMap<String, String>,
}

impl Dialogue {
    /// The clients whose streams are open, in the order in which they came.
    pub fn clients(&self) -> Vec<Client> {
        lock(&self.0.clients).values().cloned().collect()
    }

    /// Notes how a client stands.
    pub(in super::super) fn stands(&self, stream: u64, standing: Standing) {
        if let Some(client) = lock(&self.0.clients).get_mut(&stream) {
            client.standing = standing;
        }
    }

    /// Keeps what an event says of its client.
    pub(super) fn note(&self, event: &Event) {
        let mut clients = lock(&self.0.clients);
        let last = match &event.said {
            Said::Opened { .. } => {
                let (node, stream, delta) = (Arc::clone(&event.node), event.stream, event.delta);
                let client = Client { node, stream, delta, standing: Standing::Busy, types: BTreeMap::new() };
                clients.insert(stream, client);
                return;
            }
            Said::Closed => {
                clients.remove(&event.stream);
                return;
            }
            Said::Asked { .. } => "asked".to_owned(),
            Said::Sent { version, .. } => format!("sent {version}"),
            Said::Ack { version, .. } => format!("accepted {version}"),
            Said::Nack { message, .. } => format!("refused: {message}"),
            Said::Stale { .. } | Said::Unserved => return,
        };
        if let Some(client) = clients.get_mut(&event.stream) {
            client.types.insert(event.kind.clone(), last);
        }
    }
}
