//! Requests of either variant on the wire, and the fields that mean the same in both.
//!
//! What a request means is the subject of [`StreamState`](crate::stream_state::StreamState).

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tonic::body::Body;
use tonic::codec::Codec;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use crate::event_log::{EventKind, NameList, shorten_message};
use crate::variant::XdsVariant;

/// The largest request that is read: 100,000 names of a usual length fit several times over.
const REQUEST_LIMIT: usize = 16 * 1024 * 1024;

/// The client's half of a stream.
pub(super) enum Requests {
    Sotw(Streaming<DiscoveryRequest>),
    Delta(Streaming<DeltaDiscoveryRequest>),
}

/// One request.
pub(super) enum Request {
    Sotw(DiscoveryRequest),
    Delta(DeltaDiscoveryRequest),
}

impl Requests {
    pub(super) fn new(variant: XdsVariant, body: Body) -> Self {
        let limit = Some(REQUEST_LIMIT);
        match variant {
            XdsVariant::Sotw => {
                let decoder = ProstCodec::<DiscoveryRequest, DiscoveryRequest>::default().decoder();
                Self::Sotw(Streaming::new_request(decoder, body, None, limit))
            }
            XdsVariant::Delta => {
                let decoder = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryRequest>::default().decoder();
                Self::Delta(Streaming::new_request(decoder, body, None, limit))
            }
        }
    }

    /// The next request; `None` when the client has ended its half.
    pub(super) async fn next(&mut self) -> Result<Option<Request>, Status> {
        Ok(match self {
            Self::Sotw(requests) => requests.message().await?.map(Request::Sotw),
            Self::Delta(requests) => requests.message().await?.map(Request::Delta),
        })
    }
}

impl Request {
    /// Takes the client's node, if the request has one.
    pub(super) fn take_node(&mut self) -> Option<Node> {
        match self {
            Self::Sotw(request) => request.node.take(),
            Self::Delta(request) => request.node.take(),
        }
    }

    /// The URL of the type that it requests.
    pub(super) fn url(&self) -> &str {
        match self {
            Self::Sotw(request) => &request.type_url,
            Self::Delta(request) => &request.type_url,
        }
    }

    /// The nonce of the response that it answers, for the event log.
    pub(super) fn nonce(&self) -> String {
        let nonce = match self {
            Self::Sotw(request) => &request.response_nonce,
            Self::Delta(request) => &request.response_nonce,
        };
        nonce.chars().take(40).collect()
    }

    /// How many resources it says the client has (delta, in the first request of a type).
    pub(super) fn initial_versions(&self) -> usize {
        match self {
            Self::Sotw(_) => 0,
            Self::Delta(request) => request.initial_resource_versions.len(),
        }
    }

    /// The names that it lists, and the names that it unsubscribes (delta).
    pub(super) fn names(&self) -> (NameList, NameList) {
        match self {
            Self::Sotw(request) => (NameList::new(&request.resource_names), NameList::default()),
            Self::Delta(request) => (
                NameList::new(&request.resource_names_subscribe),
                NameList::new(&request.resource_names_unsubscribe),
            ),
        }
    }

    /// Its subscription, for the event log. `initial_versions` is what [`initial_versions`](Self::initial_versions) was
    /// before the stream's state took the list.
    pub(super) fn event(&self, initial_versions: usize) -> EventKind {
        let (names, unsubscribed) = self.names();
        let resumes_from = match self {
            Self::Sotw(request) => shorten_message(&request.version_info),
            Self::Delta(_) if initial_versions == 0 => String::new(),
            Self::Delta(_) => format!("{initial_versions} resources"),
        };
        EventKind::Request { names, unsubscribed, resumes_from }
    }
}
