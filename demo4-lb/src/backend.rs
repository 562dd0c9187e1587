//! The echo service as a running server that answers, counts calls and shuts down gracefully.
//!
//! ```text
//! drain()  health: NOT_SERVING ──> shutdown delay: accepts calls as before ──> the listener closes, GOAWAY on
//!             every connection ──> open calls end (Chat at once, the others when done or at the drain timeout)
//!             ──> connections that are still open a second later are aborted ──> stopped
//! kill()   every connection is aborted at once, as in a crash
//! ```
//!
//! It knows its own name and place, and not who calls: whether a client or an Envoy is on the other
//! side makes no difference here.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_net::Limits;
use shared::lifecycle::Lifecycle;
use shared::proto::DESCRIPTORS;
use shared::proto::echo::echo_server::EchoServer;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

mod connection;
mod echo;

use connection::AbortableConnection;
use echo::EchoService;
pub use echo::{MAX_REPLIES, MAX_REQUESTS};

/// The maximum time to drain without a shutdown delay, whatever the clients do. It is shorter than the grace of a whole
/// [`Lifecycle`], so that the process does not look hung.
pub const DRAIN_GRACE: Duration = Duration::from_secs(3);

/// The maximum shutdown delay: the whole shutdown must fit into the grace of a [`Lifecycle`].
pub const MAX_SHUTDOWN_DELAY: Duration = Duration::from_secs(3);

/// How long finite calls may continue after the shutdown delay.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum of shutdown delay and drain timeout together: after a long delay the timeout is short.
const SHUTDOWN_BUDGET: Duration = Duration::from_millis(3_500);

/// The time between the drain timeout and the abort of all connections, for the last replies to arrive.
const FLUSH_TIME: Duration = Duration::from_secs(1);

const _: () = assert!(
    (SHUTDOWN_BUDGET.as_millis() + FLUSH_TIME.as_millis()) < shared::lifecycle::GRACE.as_millis(),
    "a backend must stop before the grace of its lifecycle ends"
);

/// One running echo server. Dropping the handle leaves it running: its [`Lifecycle`] owns it.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    service: EchoService,
    health: HealthReporter,
    drain_requested: CancellationToken,
    kill_token: CancellationToken,
    stopped: CancellationToken,
}

impl Backend {
    /// Serves the echo service, health and reflection on `listener` until `life` ends or it is drained.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(name: &str, locality: &str, listener: TcpListener, life: &Lifecycle) -> Self {
        Self::start_with_shutdown_delay(Duration::ZERO, name, locality, listener, life)
    }

    /// Like [`start`](Self::start), but accepts calls for `shutdown_delay` after it reports NOT_SERVING. Use it where no
    /// load balancer removes the backend before SIGTERM, so that Envoy needs a moment to learn of it. A process that must
    /// end within the grace of its lifecycle uses at most [`MAX_SHUTDOWN_DELAY`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_with_shutdown_delay(
        shutdown_delay: Duration,
        name: &str,
        locality: &str,
        listener: TcpListener,
        life: &Lifecycle,
    ) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let drain_timeout = DRAIN_TIMEOUT.min(SHUTDOWN_BUDGET.saturating_sub(shutdown_delay));
        let backend = Self {
            address,
            service: EchoService::new(name, locality, CancellationToken::new(), drain_timeout, life),
            health: HealthReporter::new(),
            drain_requested: life.token().child_token(),
            kill_token: CancellationToken::new(),
            stopped: CancellationToken::new(),
        };
        let plan = ShutdownPlan {
            drain_requested: backend.drain_requested.clone(),
            shutdown_delay,
            drain_timeout,
            kill_token: backend.kill_token.clone(),
        };
        let serving = serve(backend.service.clone(), backend.health.clone(), listener, plan);
        let stopped = backend.stopped.clone().drop_guard();
        life.spawn(async move {
            serving.await;
            drop(stopped);
        });
        backend
    }

    /// The name that its replies carry.
    pub fn name(&self) -> &str {
        self.service.name()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls answered so far, of all four kinds. A refused call is none; a stream is one.
    pub fn calls(&self) -> u64 {
        self.service.calls()
    }

    /// Makes every unary call fail with UNAVAILABLE, or stops that. The backend still reports SERVING.
    pub fn set_failing(&self, failing: bool) {
        self.service.set_failing(failing);
    }

    /// Sets the health that the backend reports. It answers calls in both cases.
    pub async fn set_healthy(&self, healthy: bool) {
        let status = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in HEALTH_SERVICES {
            self.health.set_service_status(name, status).await;
        }
    }

    /// Drains and returns when the server has stopped: without a shutdown delay at most a little over [`DRAIN_GRACE`] later.
    pub async fn drain(&self) {
        self.drain_requested.cancel();
        self.stopped.cancelled().await;
    }

    /// Aborts every connection, as a crash would, and returns when the server has stopped.
    pub async fn kill(&self) {
        self.kill_token.cancel();
        self.stopped.cancelled().await;
    }
}

/// The names that health is reported for: the server as a whole and its one service.
const HEALTH_SERVICES: [&str; 2] = ["", EchoServer::<EchoService>::NAME];

/// How a server shuts down.
struct ShutdownPlan {
    drain_requested: CancellationToken,
    shutdown_delay: Duration,
    drain_timeout: Duration,
    kill_token: CancellationToken,
}

async fn serve(service: EchoService, mut health: HealthReporter, listener: TcpListener, plan: ShutdownPlan) {
    // Cancelled only after the shutdown delay: every accepted call is answered.
    let draining = service.draining().clone();
    let ShutdownPlan { drain_requested, shutdown_delay, drain_timeout, kill_token } = plan;
    let health_service = HealthService::from_health_reporter(health.clone());
    health.set_serving::<EchoServer<EchoService>>().await;

    let abortable = {
        let kill_token = kill_token.clone();
        move |accepted: std::io::Result<_>| {
            accepted.map(|tcp| AbortableConnection::new(tcp, kill_token.clone()))
        }
    };
    let limits = Limits::default();
    let server = mesh_net::grpc_server(limits)
        .add_service(EchoServer::new(service))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health_service))
        .add_service(reflection().build_v1().expect("our own descriptors decode"))
        // Older grpcurl asks for this one.
        .add_service(reflection().build_v1alpha().expect("our own descriptors decode"))
        .serve_with_incoming_shutdown(
            mesh_net::incoming(listener, limits).map(abortable),
            draining.clone().cancelled_owned(),
        );

    let shutdown = async {
        tokio::select! {
            () = kill_token.cancelled() => {}
            () = drain_requested.cancelled() => {
                for name in HEALTH_SERVICES {
                    health.set_service_status(name, ServingStatus::NotServing).await;
                }
                tokio::select! { () = kill_token.cancelled() => {}, () = tokio::time::sleep(shutdown_delay) => {} }
                draining.cancel();
                // An open Watch has been told. It would go on for ever, and hold its connection open.
                for name in HEALTH_SERVICES {
                    health.clear_service_status(name).await;
                }
                let longest = tokio::time::sleep(drain_timeout + FLUSH_TIME);
                tokio::select! { () = kill_token.cancelled() => {}, () = longest => kill_token.cancel() }
            }
        }
        draining.cancel();
    };
    let (served, ()) = {
        let ended = CancellationToken::new();
        let served = async {
            let _ended = ended.clone().drop_guard();
            server.await
        };
        tokio::join!(served, async {
            tokio::select! { () = shutdown => {}, () = ended.cancelled() => {} }
        })
    };
    if let Err(error) = served {
        tracing::error!(%error, "the server broke off");
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
