//! Requests of either dialect, as they come in.
//!
//! Knows the wire form and which of a request's parts mean the same in both. What a request means to a stream is for
//! [`Stream`](super::super::stream::Stream) to say.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tonic::body::Body;
use tonic::codec::Codec;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::super::dialogue::{Names, Said, complaint};
use super::super::frame::Dialect;
use super::REQUEST_LIMIT;

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
    pub(super) fn new(dialect: Dialect, body: Body) -> Self {
        let limit = Some(REQUEST_LIMIT);
        match dialect {
            Dialect::Sotw => {
                let decoder = ProstCodec::<DiscoveryRequest, DiscoveryRequest>::default().decoder();
                Self::Sotw(Streaming::new_request(decoder, body, None, limit))
            }
            Dialect::Delta => {
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
    /// Who the client is, if it says so.
    pub(super) fn take_node(&mut self) -> Option<Node> {
        match self {
            Self::Sotw(request) => request.node.take(),
            Self::Delta(request) => request.node.take(),
        }
    }

    /// The URL of the type that it is about.
    pub(super) fn url(&self) -> &str {
        match self {
            Self::Sotw(request) => &request.type_url,
            Self::Delta(request) => &request.type_url,
        }
    }

    /// The nonce of the response that it answers, for people.
    pub(super) fn nonce(&self) -> String {
        let nonce = match self {
            Self::Sotw(request) => &request.response_nonce,
            Self::Delta(request) => &request.response_nonce,
        };
        nonce.chars().take(40).collect()
    }

    /// How many resources it says that the client has (delta, in the first request of a type).
    pub(super) fn listed(&self) -> usize {
        match self {
            Self::Sotw(_) => 0,
            Self::Delta(request) => request.initial_resource_versions.len(),
        }
    }

    /// The names that it asks for, and those that it drops (delta).
    pub(super) fn names(&self) -> (Names, Names) {
        let names = |names: &[String]| Names::new(names.iter().map(|name| name.as_str().into()).collect());
        match self {
            Self::Sotw(request) => (names(&request.resource_names), Names::default()),
            Self::Delta(request) => {
                (names(&request.resource_names_subscribe), names(&request.resource_names_unsubscribe))
            }
        }
    }

    /// What it subscribes to, for the dialogue; `listed` as [`listed`](Self::listed) was before a stream took the list.
    pub(super) fn asked(&self, listed: usize) -> Said {
        let (names, dropped) = self.names();
        let has = match self {
            Self::Sotw(request) => complaint(&request.version_info),
            Self::Delta(_) if listed == 0 => String::new(),
            Self::Delta(_) => format!("{listed} resources"),
        };
        Said::Asked { names, dropped, has }
    }
}
