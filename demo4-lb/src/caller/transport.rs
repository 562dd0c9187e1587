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

/// The connect timeout. It is shorter than a call's deadline, so that the call reports the reason.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The prefix of the node id of a proxyless client.
pub const NODE_ID_PREFIX: &str = "demo4-proxyless";

/// A transport cannot be created.
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
pub struct Transport(BoxCloneSyncService<Request<Body>, Response<Body>, Status>);

impl Transport {
    /// One HTTP/2 connection to `target` (`http://HOST:PORT`), made with the first call.
    pub(super) fn direct(target: &str) -> Result<Self, CallerError> {
        let invalid = || CallerError::Target { target: target.to_owned() };
        let uri: http::Uri = target.parse().map_err(|_| invalid())?;
        if uri.scheme_str() != Some("http") || uri.port_u16().is_none() || uri.path() != "/" {
            return Err(invalid());
        }
        let channel = Endpoint::from(uri).connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect_lazy();
        Ok(Self(BoxCloneSyncService::new(channel.map_err(|error| Status::from_error(error.into())))))
    }

    /// Connections to all endpoints that the control plane names for `service`.
    ///
    /// Plaintext: the control plane and the backends are on this machine or this compose network.
    pub(super) fn proxyless(control_plane: impl fmt::Display, service: &str) -> Result<Self, CallerError> {
        let control_plane = control_plane.to_string();
        let authority: Option<Authority> = control_plane.parse().ok();
        // With a scheme in it, or without a port, the client would be made and wait for ever.
        if authority.is_none_or(|authority| authority.host().is_empty() || authority.port_u16().is_none()) {
            return Err(CallerError::ControlPlane { given: control_plane });
        }
        if service.is_empty() {
            return Err(CallerError::Target { target: "xds:///".to_owned() });
        }
        let invalid = |source| CallerError::Proxyless { service: service.to_owned(), source };
        // Other gRPC clients want HOST:PORT here, without the scheme.
        let bootstrap = BootstrapConfig::builder(format!("http://{control_plane}"))
            .channel_creds([ChannelCredentialType::Insecure])
            .node_id(format!("{NODE_ID_PREFIX}-{}", std::process::id()))
            .node_cluster("demo4")
            .build()
            .map_err(|error| invalid(error.into()))?;
        let target = XdsUri::parse(&format!("xds:///{service}")).map_err(|error| invalid(error.into()))?;
        let channel = XdsChannelBuilder::new(XdsChannelConfig::new(target).with_bootstrap(bootstrap))
            .build_grpc_channel()
            .map_err(|error| invalid(error.into()))?;
        Ok(Self(BoxCloneSyncService::new(channel.map_err(Status::from_error))))
    }
}

// A type of its own, because a generated client over the boxed service itself cannot be sent to a task:
// the compiler finds its error's conversion "not general enough".
impl Service<Request<Body>> for Transport {
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

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}
