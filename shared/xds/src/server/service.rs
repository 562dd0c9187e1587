//! One discovery service as tonic's router wants it: it tells the dialect by the method, and begins a conversation.
//!
//! Each is written by hand, where tonic would generate it, because the generated ones encode
//! a message for every stream. Here a response is a few bytes of its own and the resources' shared
//! bytes ([`frame`](super::super::frame)). Requests, of which there are few, are decoded the usual way.
//!
//! Does not know what is said in a conversation.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::super::frame::Dialect;
use super::super::resource::ResourceType;
use super::conversation::Conversation;
use super::{Server, Shared};

/// One of the discovery services: its name, the ending of its methods, its type.
pub(super) trait Kind: Send + Sync + 'static {
    const NAME: &'static str;
    const METHOD: &'static str;
    const KIND: Option<ResourceType>;
}

macro_rules! services {
    ($($service:ident: $name:literal, $method:literal, $kind:expr;)*) => {$(
        pub(super) struct $service;
        impl Kind for $service {
            const NAME: &'static str = $name;
            const METHOD: &'static str = $method;
            const KIND: Option<ResourceType> = $kind;
        }
    )*};
}
services! {
    Aggregated: "envoy.service.discovery.v3.AggregatedDiscoveryService", "AggregatedResources", None;
    Clusters: "envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters", Some(ResourceType::Cluster);
    Endpoints: "envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints", Some(ResourceType::Endpoints);
    Listeners: "envoy.service.listener.v3.ListenerDiscoveryService", "Listeners", Some(ResourceType::Listener);
    Routes: "envoy.service.route.v3.RouteDiscoveryService", "Routes", Some(ResourceType::Route);
    Secrets: "envoy.service.secret.v3.SecretDiscoveryService", "Secrets", Some(ResourceType::Secret);
}

/// A discovery service as tonic's router wants it.
pub(super) struct Discovery<K> {
    shared: Arc<Shared>,
    kind: PhantomData<K>,
}

impl<K: Kind> Discovery<K> {
    pub(super) fn new(server: &Server) -> Self {
        Self { shared: Arc::clone(&server.0), kind: PhantomData }
    }

    fn dialect(path: &str) -> Option<Dialect> {
        let method = path.rsplit('/').next()?;
        match method.strip_suffix(K::METHOD)? {
            "Stream" => Some(Dialect::Sotw),
            "Delta" => Some(Dialect::Delta),
            _ => None,
        }
    }
}

impl<K> Clone for Discovery<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), kind: PhantomData }
    }
}

impl<K: Kind> NamedService for Discovery<K> {
    const NAME: &'static str = K::NAME;
}

impl<K: Kind> Service<http::Request<Body>> for Discovery<K> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Some(dialect) = Self::dialect(request.uri().path()) else {
            // The unary Fetch methods belong to the REST variant, which is not served.
            let refusal =
                tonic::Status::unimplemented("this control plane serves the streaming methods only");
            return ready(Ok(refusal.into_http()));
        };
        let id = self.shared.streams.fetch_add(1, Ordering::Relaxed) + 1;
        let conversation =
            Conversation::new(Arc::clone(&self.shared), id, dialect, K::KIND, request.into_body());
        let mut response = http::Response::new(Body::new(conversation.into_body()));
        let grpc = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
        ready(Ok(response))
    }
}
