//! How a caller reaches backends: over one connection, or as a client that speaks xDS.
//!
//! The second is tonic-xds, young and with an API that still moves; all that the demo uses of it is in
//! this file. Both become one type, so that nothing else knows which it has.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::uri::Authority;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Endpoint;
use tonic_xds::{BootstrapConfig, ChannelCredentialType, XdsChannelBuilder, XdsChannelConfig, XdsUri};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

/// How long connecting may take: less than a call's deadline, so that the reason is still told.
const CONNECT: Duration = Duration::from_secs(1);

/// What the node id of a client that speaks xDS itself begins with.
pub const NODE: &str = "demo4-proxyless";

/// Why there is no wire.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The target is not an address that gRPC can call.
    #[error("cannot call {target:?}: write it as http://HOST:PORT, or xds:///SERVICE to ask a control plane")]
    Target {
        /// What was given.
        target: String,
    },
    /// No control plane can be at such an address.
    #[error(
        "cannot ask {given:?}: write the control plane as HOST:PORT, as in 127.0.0.1:14002, without http://"
    )]
    ControlPlane {
        /// What was given.
        given: String,
    },
    /// The xDS client cannot be made of these names.
    #[error("no xDS client for {service:?}: is it a plain service name, as in xds:///echo?")]
    Proxyless {
        /// The service that was to be called.
        service: String,
        /// What the client library says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A way to the backends. Clones share its connections.
#[derive(Clone)]
pub struct Wire(BoxCloneSyncService<Request<Body>, Response<Body>, Status>);

impl Wire {
    /// One HTTP/2 connection to `target` (`http://HOST:PORT`), made with the first call.
    pub(super) fn direct(target: &str) -> Result<Self, CallerError> {
        let refuse = || CallerError::Target { target: target.to_owned() };
        let uri: http::Uri = target.parse().map_err(|_| refuse())?;
        if uri.scheme_str() != Some("http") || uri.port_u16().is_none() || uri.path() != "/" {
            return Err(refuse());
        }
        let channel = Endpoint::from(uri).connect_timeout(CONNECT).tcp_nodelay(true).connect_lazy();
        Ok(Self(BoxCloneSyncService::new(channel.map_err(|error| Status::from_error(error.into())))))
    }

    /// Connections to all endpoints that the control plane names for `service`.
    ///
    /// Plaintext: the control plane and the backends are on this machine or this compose network.
    pub(super) fn proxyless(control_plane: impl fmt::Display, service: &str) -> Result<Self, CallerError> {
        let control_plane = control_plane.to_string();
        let place: Option<Authority> = control_plane.parse().ok();
        // With a scheme in it, or without a port, the client would be made and wait for ever.
        if place.is_none_or(|place| place.host().is_empty() || place.port_u16().is_none()) {
            return Err(CallerError::ControlPlane { given: control_plane });
        }
        if service.is_empty() {
            return Err(CallerError::Target { target: "xds:///".to_owned() });
        }
        let refuse = |source| CallerError::Proxyless { service: service.to_owned(), source };
        // Other gRPC clients want HOST:PORT here, without the scheme.
        let bootstrap = BootstrapConfig::builder(format!("http://{control_plane}"))
            .channel_creds([ChannelCredentialType::Insecure])
            .node_id(format!("{NODE}-{}", std::process::id()))
            .node_cluster("demo4")
            .build()
            .map_err(|error| refuse(error.into()))?;
        let target = XdsUri::parse(&format!("xds:///{service}")).map_err(|error| refuse(error.into()))?;
        let channel = XdsChannelBuilder::new(XdsChannelConfig::new(target).with_bootstrap(bootstrap))
            .build_grpc_channel()
            .map_err(|error| refuse(error.into()))?;
        Ok(Self(BoxCloneSyncService::new(channel.map_err(Status::from_error))))
    }
}

// A type of its own, because a generated client over the boxed service itself cannot be sent to a task:
// the compiler finds its error's conversion "not general enough".
impl Service<Request<Body>> for Wire {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}
