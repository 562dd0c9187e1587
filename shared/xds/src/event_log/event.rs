//! One event on one stream. Which events are kept, and for how long, is the subject of `event_log.rs`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::name_list::NameList;

/// How much of a client's error message is kept, in characters.
const MESSAGE_SHOWN: usize = 2000;

/// What happened on a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The client opened the stream.
    Opened {
        /// The group whose snapshots the client receives.
        group: String,
    },
    /// The client sent a request that answers no response: it subscribes to names, or unsubscribes (delta).
    Request {
        /// The names in the request; empty for the legacy wildcard.
        names: NameList,
        /// Names that it unsubscribed (delta).
        unsubscribed: NameList,
        /// The version that the client has from an earlier stream, or how many resources it listed.
        resumes_from: String,
    },
    /// The server sent a response.
    Response {
        /// The version of everything that the client has with it.
        version: String,
        /// The nonce that the client's answer will repeat.
        nonce: u64,
        /// The resources that it carried.
        names: NameList,
        /// The names that it removed.
        removed: NameList,
        /// Its size on the wire.
        bytes: usize,
    },
    /// The client accepted a response, and possibly changed its subscription.
    Ack {
        /// The version of the response.
        version: String,
        /// The nonce of the response.
        nonce: String,
        /// The names in the request, if it changed the subscription.
        names: NameList,
        /// Names that it unsubscribed (delta).
        unsubscribed: NameList,
    },
    /// The client rejected a response.
    Nack {
        /// The version of the response; empty if the server no longer knows it.
        version: String,
        /// The nonce of the response.
        nonce: String,
        /// The resources that the response added, changed or removed.
        names: NameList,
        /// The client's error message.
        message: String,
    },
    /// The response that follows is larger than what gRPC clients accept by default. Recorded once for each version.
    LargeResponse {
        /// The version of the response.
        version: String,
        /// The size of its resources.
        bytes: usize,
        /// Its largest resources, and the size of each.
        largest: Vec<(Arc<str>, usize)>,
    },
    /// The client answered a response that a newer one had replaced.
    Stale {
        /// The nonce of the response.
        nonce: String,
        /// The names in the request.
        names: NameList,
        /// Names that it unsubscribed (delta).
        unsubscribed: NameList,
    },
    /// The client requested a type that this control plane does not serve.
    UnknownType,
    /// The stream ended.
    Closed,
}

/// One event on one stream.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// When; written as seconds since 1970.
    #[serde(serialize_with = "since_1970")]
    pub time: SystemTime,
    /// Seconds since the log started.
    #[serde(serialize_with = "as_seconds")]
    pub at: Duration,
    /// The client's node id.
    pub node: Arc<str>,
    /// The number of the stream; the server counts its streams.
    pub stream: u64,
    /// The type's discovery service (`CDS` …), or the URL of a type that is not served; empty if the event is
    /// about the stream itself.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Whether the stream uses the delta variant.
    pub delta: bool,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

fn as_seconds<S: serde::Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((at.as_secs_f64() * 1e6).round() / 1e6)
}

pub(super) fn since_1970<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    // A clock before 1970 is no reason to lose the event.
    as_seconds(&time.duration_since(UNIX_EPOCH).unwrap_or_default(), serializer)
}

/// Shortens a client's error message, and replaces its control characters.
pub(crate) fn shorten_message(message: &str) -> String {
    message.chars().take(MESSAGE_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
