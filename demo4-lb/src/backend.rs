//! The echo service as a running server: it answers, it counts, and it knows how to leave.
//!
//! ```text
//! drain()  health: NOT_SERVING ──> lingers: takes calls as before ──> the listener closes, GOAWAY on every
//!             connection ──> open calls end (Chat at once, the others when done or out of patience)
//!             ──> what is open a second later is cut ──> gone
//! kill()   every connection is cut at once, as in a crash
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

use connection::Cuttable;
use echo::Answering;
pub use echo::{MOST_REPLIES, MOST_REQUESTS};

/// How long a draining backend that does not linger may take, however stubborn its clients are; below the grace of
/// a whole [`Lifecycle`], so that the process does not look hung.
pub const GRACE: Duration = Duration::from_secs(3);

/// The longest that a backend may linger: all of its leaving has to fit into the grace of a whole [`Lifecycle`].
pub const MOST_LINGER: Duration = Duration::from_secs(3);

/// How long finite calls may go on when the lingering is over.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long lingering and patience may take together: after a long linger, patience is short.
const LEAVING: Duration = Duration::from_millis(3_500);

/// From the end of patience until connections are cut: for the last words to arrive.
const LAST_WORDS: Duration = Duration::from_secs(1);

const _: () = assert!(
    (LEAVING.as_millis() + LAST_WORDS.as_millis()) < shared::lifecycle::GRACE.as_millis(),
    "a backend that lingers has to be gone before its process is called hung"
);

/// One running echo server. Dropping the handle leaves it running: its [`Lifecycle`] owns it.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    answering: Answering,
    health: HealthReporter,
    leave: CancellationToken,
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
    /// need a moment to hear of it. A process whose lifecycle shall end in time lingers for [`MOST_LINGER`] at most.
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
        let patience = PATIENCE.min(LEAVING.saturating_sub(linger));
        let backend = Self {
            address,
            answering: Answering::new(name, locality, CancellationToken::new(), patience, life),
            health: HealthReporter::new(),
            leave: life.token().child_token(),
            cut: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        let end = End { leave: backend.leave.clone(), linger, patience, cut: backend.cut.clone() };
        let serving = serve(backend.answering.clone(), backend.health.clone(), listener, end);
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

    /// Leaves in good order and returns when the server is gone: without lingering at most a little over [`GRACE`]
    /// later.
    pub async fn drain(&self) {
        self.leave.cancel();
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

/// How a server ends.
struct End {
    leave: CancellationToken,
    linger: Duration,
    patience: Duration,
    cut: CancellationToken,
}

async fn serve(answering: Answering, mut health: HealthReporter, listener: TcpListener, end: End) {
    // Only when it has lingered: a call that is still taken is still answered.
    let draining = answering.draining().clone();
    let End { leave, linger, patience, cut } = end;
    let health_service = HealthService::from_health_reporter(health.clone());
    health.set_serving::<EchoServer<Answering>>().await;

    let cuttable = {
        let cut = cut.clone();
        move |accepted: std::io::Result<_>| accepted.map(|tcp| Cuttable::new(tcp, cut.clone()))
    };
    let limits = Limits::default();
    let server = mesh_net::grpc_server(limits)
        .add_service(EchoServer::new(answering))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health_service))
        .add_service(reflection().build_v1().expect("our own descriptors decode"))
        // Older grpcurl asks for this one.
        .add_service(reflection().build_v1alpha().expect("our own descriptors decode"))
        .serve_with_incoming_shutdown(
            mesh_net::incoming(listener, limits).map(cuttable),
            draining.clone().cancelled_owned(),
        );

    let leaving = async {
        tokio::select! {
            () = cut.cancelled() => {}
            () = leave.cancelled() => {
                for name in NAMES {
                    health.set_service_status(name, ServingStatus::NotServing).await;
                }
                tokio::select! { () = cut.cancelled() => {}, () = tokio::time::sleep(linger) => {} }
                draining.cancel();
                // An open Watch has been told. It would go on for ever, and hold its connection open.
                for name in NAMES {
                    health.clear_service_status(name).await;
                }
                let longest = tokio::time::sleep(patience + LAST_WORDS);
                tokio::select! { () = cut.cancelled() => {}, () = longest => cut.cancel() }
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
            tokio::select! { () = leaving => {}, () = ended.cancelled() => {} }
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
