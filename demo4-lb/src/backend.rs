//! The echo service as a running server: it answers, it counts, and it knows how to leave.
//!
//! ```text
//! drain()  health: NOT_SERVING ──> (lingers) ──> the listener closes, GOAWAY on every connection
//!             ──> open calls end (Chat at once, the others when done or after PATIENCE)
//!             ──> what is open after GRACE is cut ──> gone
//! kill()   every connection is cut at once, as in a crash
//! ```
//!
//! It knows its own name and place, and not who calls: whether a client or an Envoy is on the other
//! side makes no difference here.

use std::net::SocketAddr;
use std::time::Duration;

use shared::lifecycle::Lifecycle;
use shared::proto::DESCRIPTORS;
use shared::proto::echo::echo_server::EchoServer;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

mod connection;
mod echo;

use connection::Cuttable;
use echo::Answering;
pub use echo::{MOST_REPLIES, MOST_REQUESTS};

/// How long a draining backend lets open calls run; below the grace of a whole [`Lifecycle`], so that
/// a stubborn client does not make the process look hung.
pub const GRACE: Duration = Duration::from_secs(3);

/// One running echo server. Dropping the handle leaves it running: its [`Lifecycle`] owns it.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    answering: Answering,
    health: HealthReporter,
    cut: CancellationToken,
    gone: CancellationToken,
}

impl Backend {
    /// Serves the echo service, health and reflection on `listener` until `life` ends or it is drained.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(name: &str, locality: &str, listener: TcpListener, life: &Lifecycle) -> Self {
        Self::lingering(Duration::ZERO, name, locality, listener, life)
    }

    /// As [`start`](Self::start), but a draining backend goes on taking calls for `linger` after it has said
    /// NOT_SERVING: for a world in which nobody takes it out before it is told to stop, so that those who route
    /// need a moment to hear of it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn lingering(
        linger: Duration,
        name: &str,
        locality: &str,
        listener: TcpListener,
        life: &Lifecycle,
    ) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let draining = life.token().child_token();
        let backend = Self {
            address,
            answering: Answering::new(name, locality, draining, life),
            health: HealthReporter::new(),
            cut: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        let serving =
            serve(backend.answering.clone(), backend.health.clone(), linger, listener, backend.cut.clone());
        let gone = backend.gone.clone().drop_guard();
        life.spawn(async move {
            serving.await;
            drop(gone);
        });
        backend
    }

    /// The name that its replies carry.
    pub fn name(&self) -> &str {
        self.answering.name()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls answered so far, of all four kinds. A refused call is none; a stream is one.
    pub fn calls(&self) -> u64 {
        self.answering.calls()
    }

    /// Lets every unary call fail with UNAVAILABLE from now on, or no longer: a backend that is up, says
    /// that it is well, and is not.
    pub fn fail(&self, failing: bool) {
        self.answering.fail(failing);
    }

    /// Tells whoever asks for its health that it serves, or does not. Calls are answered all the same.
    pub async fn set_healthy(&self, healthy: bool) {
        let status = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in NAMES {
            self.health.set_service_status(name, status).await;
        }
    }

    /// Leaves in good order and returns when the server is gone, at most a little over [`GRACE`] later.
    pub async fn drain(&self) {
        self.answering.draining().cancel();
        self.gone.cancelled().await;
    }

    /// Cuts every connection without a word, as a crash would, and returns when the server is gone.
    pub async fn kill(&self) {
        self.cut.cancel();
        self.gone.cancelled().await;
    }
}

/// What health can be asked for: the server as a whole, and its one service.
const NAMES: [&str; 2] = ["", EchoServer::<Answering>::NAME];

async fn serve(
    answering: Answering,
    mut health: HealthReporter,
    linger: Duration,
    listener: TcpListener,
    cut: CancellationToken,
) {
    let draining = answering.draining().clone();
    let health_service = HealthService::from_health_reporter(health.clone());
    health.set_serving::<EchoServer<Answering>>().await;

    let cuttable = {
        let cut = cut.clone();
        move |accepted: std::io::Result<_>| accepted.map(|tcp| Cuttable::new(tcp, cut.clone()))
    };
    let go_away = CancellationToken::new();
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .add_service(EchoServer::new(answering))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health_service))
        .add_service(reflection().build_v1().expect("our own descriptors decode"))
        // Older grpcurl asks for this one.
        .add_service(reflection().build_v1alpha().expect("our own descriptors decode"))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener).map(cuttable), {
            let go_away = go_away.clone();
            async move { go_away.cancelled().await }
        });

    let leave = async {
        tokio::select! {
            () = cut.cancelled() => {}
            () = draining.cancelled() => {
                for name in NAMES {
                    health.set_service_status(name, ServingStatus::NotServing).await;
                }
                tokio::select! { () = cut.cancelled() => {}, () = tokio::time::sleep(linger) => {} }
                go_away.cancel();
                // An open Watch has been told. It would go on for ever, and hold its connection open.
                for name in NAMES {
                    health.clear_service_status(name).await;
                }
                tokio::select! { () = cut.cancelled() => {}, () = tokio::time::sleep(GRACE) => cut.cancel() }
            }
        }
        go_away.cancel();
    };
    let (served, ()) = {
        let ended = CancellationToken::new();
        let served = async {
            let _ended = ended.clone().drop_guard();
            server.await
        };
        tokio::join!(served, async {
            tokio::select! { () = leave => {}, () = ended.cancelled() => {} }
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
