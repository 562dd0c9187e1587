//! The authorizer as a running server: the gRPC service that Envoy asks, its health, and a page of metrics.
//!
//! ```text
//! SIGTERM ──> health: NOT_SERVING ──> (shutdown delay, until Envoys have marked it unhealthy) ──> GOAWAY ──> last checks ──> stopped
//! ```
//!
//! Knows nothing of tokens and policies.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::ext_authz::v3::pb::AuthorizationServer;
use http::{Method, StatusCode};
use mesh_net::Limits;
use shared::lifecycle::Lifecycle;
use shared::web;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::authorizer::Authorizer;

/// How long the last checks may take after GOAWAY. A check takes microseconds; it is the connections that linger.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// The largest question that is read, in bytes: a request body that Envoy sends along is in it.
const MAX_REQUEST_BYTES: usize = 2 << 20;

/// Checks at once on one connection; Envoy lets more wait.
const MAX_CONCURRENT_CHECKS: u32 = 1024;

/// What health can be asked for: the server as a whole, and its one service.
const HEALTH_SERVICES: [&str; 2] = ["", <AuthorizationServer<Authorizer> as NamedService>::NAME];

/// A running authorizer. Dropping the handle leaves it running: its [`Lifecycle`] owns it.
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    draining: CancellationToken,
    stopped: CancellationToken,
}

impl RunningServer {
    /// Serves on `listener` until `life` ends or it is drained. After the stop request it still answers checks for
    /// `shutdown_delay`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        authorizer: Authorizer,
        listener: TcpListener,
        shutdown_delay: Duration,
        life: &Lifecycle,
    ) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let (draining, stopped) = (life.token().child_token(), CancellationToken::new());
        let serving = serve(authorizer.clone(), listener, shutdown_delay, draining.clone());
        life.spawn({
            let stopped = stopped.clone().drop_guard();
            async move {
                serving.await;
                authorizer.log().close();
                drop(stopped);
            }
        });
        Self { address, draining, stopped }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leaves in good order, and returns when it is gone.
    pub async fn drain(&self) {
        self.draining.cancel();
        self.stopped.cancelled().await;
    }
}

async fn serve(
    authorizer: Authorizer,
    listener: TcpListener,
    shutdown_delay: Duration,
    draining: CancellationToken,
) {
    let health = HealthReporter::new();
    let health_service = HealthService::from_health_reporter(health.clone());
    for name in HEALTH_SERVICES {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    let limits = Limits { streams: MAX_CONCURRENT_CHECKS, ..Limits::default() };
    let go_away = CancellationToken::new();
    let server = mesh_net::grpc_server(limits)
        .add_service(tonic_health::pb::health_server::HealthServer::new(health_service))
        .add_service(AuthorizationServer::new(authorizer).max_decoding_message_size(MAX_REQUEST_BYTES))
        .serve_with_incoming_shutdown(
            mesh_net::incoming(listener, limits),
            go_away.clone().cancelled_owned(),
        );
    let shutdown = async {
        draining.cancelled().await;
        for name in HEALTH_SERVICES {
            health.set_service_status(name, ServingStatus::NotServing).await;
        }
        tokio::time::sleep(shutdown_delay).await;
        go_away.cancel();
        // An open Watch has been told. It would go on for ever, and hold its connection open.
        for name in HEALTH_SERVICES {
            health.clone().clear_service_status(name).await;
        }
        tokio::time::sleep(DRAIN_GRACE).await;
    };
    tokio::select! {
        served = server => if let Err(error) = served {
            tracing::error!(%error, "the server broke off");
        },
        () = shutdown => {}
    }
}

/// Serves `GET /metrics` on `listener`.
pub fn serve_metrics(authorizer: Authorizer, listener: TcpListener, life: &Lifecycle) {
    web::serve(listener, life, move |request| {
        let authorizer = authorizer.clone();
        async move {
            match (request.method(), request.uri().path()) {
                (&Method::GET, "/metrics") => {
                    web::page(StatusCode::OK, "text/plain; version=0.0.4", authorizer.metrics().to_text())
                }
                _ => web::text(StatusCode::NOT_FOUND, "GET /metrics\n"),
            }
        }
    });
}
