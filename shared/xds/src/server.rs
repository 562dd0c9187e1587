//! The gRPC services: the aggregated one (ADS), one for each type, and load reports where they are wanted.
//! The only I/O in xds, but for the small ones of [`load`](super::load) and [`metrics::serve`](super::metrics::serve).
//!
//! Knows how a server is made, started and drained, and not what is said on a stream. A service as tonic's router
//! wants it is in `service.rs`, one stream on the wire in `conversation.rs`.

mod service;

mod conversation;

mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::ServerTlsConfig;
#[cfg(feature = "health")]
use tonic_health::{ServingStatus, server::HealthReporter};

use super::cache::Cache;
use super::dialogue::Dialogue;
use super::load::LoadReports;
use super::metrics::Metrics;
use super::stream::Traits;
/// The encoded `FileDescriptorSet` of the discovery services, with the fields that the control plane uses.
#[cfg(feature = "reflection")]
const DISCOVERY_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/discovery.bin"));

#[cfg(feature = "health")]
use service::Kind;
use service::{Aggregated, Clusters, Discovery, Endpoints, Listeners, Routes, Secrets};

/// How long clients may take to end their streams when the server stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// How many connections may wait to be accepted. The usual 128 overflow when a fleet reconnects after
/// a restart, and each client that is turned away tries again only a second later.
const QUEUE: i32 = 4096;

/// How long to wait after the kernel refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The largest request that is read: 100,000 names of a usual length fit several times over.
const REQUEST_LIMIT: usize = 16 * 1024 * 1024;

/// The server could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The listener, the TLS configuration or the HTTP/2 layer failed.
    #[error("the control plane's server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// An xDS server over a cache. Cheap to clone; clones serve the same cache.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

/// What all streams of a server share.
struct Shared {
    cache: Arc<Cache>,
    dialogue: Option<Dialogue>,
    metrics: Option<Metrics>,
    loads: Option<LoadReports>,
    traits: Box<dyn Fn(&Node) -> Traits + Send + Sync>,
    patience: Duration,
    tls: Option<ServerTlsConfig>,
    /// How many streams there ever were, which numbers them, and how many are open.
    streams: AtomicU64,
    open: AtomicU64,
    stop: CancellationToken,
}

/// The choices that a server is made with.
pub struct ServerBuilder(Shared);

impl ServerBuilder {
    /// Records what is said.
    #[must_use]
    pub fn dialogue(mut self, dialogue: Dialogue) -> Self {
        self.0.dialogue = Some(dialogue);
        self
    }

    /// Counts what happens.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.0.metrics = Some(metrics);
        self
    }

    /// Takes load reports (LRS). Without it clients that would report are told that nobody listens.
    #[must_use]
    pub fn loads(mut self, loads: LoadReports) -> Self {
        self.0.loads = Some(loads);
        self
    }

    /// Tells clients apart that read the protocol differently.
    #[must_use]
    pub fn traits(mut self, traits: impl Fn(&Node) -> Traits + Send + Sync + 'static) -> Self {
        self.0.traits = Box::new(traits);
        self
    }

    /// How long listeners and routes wait for a client that does not ask for the endpoints of a
    /// cluster it was just sent (5 s unless said). Envoy asks within milliseconds.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.0.patience = patience;
        self
    }

    /// Serves over TLS; with a client CA in `tls`, only clients with a certificate of it are served.
    ///
    /// Plaintext is for loopback and for networks of containers that nobody else is on: secrets travel
    /// on these streams.
    #[must_use]
    pub fn tls(mut self, tls: ServerTlsConfig) -> Self {
        self.0.tls = Some(tls);
        self
    }

    /// The server.
    pub fn build(self) -> Server {
        Server(Arc::new(self.0))
    }
}

impl Server {
    /// A server for this cache that ends its streams when `stop` is cancelled.
    pub fn builder(cache: Arc<Cache>, stop: CancellationToken) -> ServerBuilder {
        ServerBuilder(Shared {
            cache,
            dialogue: None,
            metrics: None,
            loads: None,
            traits: Box::new(traits_of),
            patience: Duration::from_secs(5),
            tls: None,
            streams: AtomicU64::new(0),
            open: AtomicU64::new(0),
            stop,
        })
    }

    /// How many streams are open now.
    pub fn streams_open(&self) -> u64 {
        self.0.open.load(Ordering::Relaxed)
    }

    /// All xDS services, to be added to a tonic server of one's own.
    pub fn routes(&self) -> tonic::service::Routes {
        let routes = tonic::service::Routes::new(Discovery::<Aggregated>::new(self))
            .add_service(Discovery::<Clusters>::new(self))
            .add_service(Discovery::<Endpoints>::new(self))
            .add_service(Discovery::<Listeners>::new(self))
            .add_service(Discovery::<Routes>::new(self))
            .add_service(Discovery::<Secrets>::new(self));
        match &self.0.loads {
            Some(loads) => routes.add_service(loads.service(self.0.stop.clone())),
            None => routes,
        }
    }

    /// Serves xDS on `listener` until the stop token is cancelled; with the features `health` and `reflection`, those
    /// gRPC services too.
    ///
    /// # Errors
    /// If the listener or the TLS configuration fails.
    pub async fn serve(self, listener: TcpListener) -> Result<(), ServerError> {
        let stop = self.0.stop.clone();
        if let Err(error) = socket2::SockRef::from(&listener).listen(QUEUE) {
            tracing::debug!(%error, "the listener keeps its queue");
        }
        let incoming = accepted(listener);
        let mut server = tonic::transport::Server::builder();
        if let Some(tls) = &self.0.tls {
            server = server.tls_config(tls.clone())?;
        }
        let routes = self.routes();
        #[cfg(feature = "reflection")]
        let routes = with_reflection(routes);
        #[cfg(feature = "health")]
        let (health, routes) = with_health(routes).await;
        let serving = server
            // A client whose machine vanished says nothing; without this its streams would stay for ever.
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, async {
                stop.cancelled().await;
                // Whoever still watches on an open connection is told before it ends.
                #[cfg(feature = "health")]
                set_health(&health, ServingStatus::NotServing).await;
            });
        tokio::select! {
            served = serving => Ok(served?),
            () = async { stop.cancelled().await; tokio::time::sleep(DRAIN_LIMIT).await } => {
                tracing::warn!("some clients did not end their streams within {DRAIN_LIMIT:?}");
                Ok(())
            }
        }
    }
}

#[cfg(feature = "health")]
async fn with_health(routes: tonic::service::Routes) -> (HealthReporter, tonic::service::Routes) {
    let (health, service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;
    (health, routes.add_service(service))
}

/// Says of each service, and of the server as a whole (the empty name), whether it serves.
#[cfg(feature = "health")]
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    let services =
        [Aggregated::NAME, Clusters::NAME, Endpoints::NAME, Listeners::NAME, Routes::NAME, Secrets::NAME];
    for service in services.into_iter().chain([""]) {
        health.set_service_status(service, status).await;
    }
}

#[cfg(feature = "reflection")]
fn with_reflection(routes: tonic::service::Routes) -> tonic::service::Routes {
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DISCOVERY_DESCRIPTORS);
        #[cfg(feature = "health")]
        let builder = builder.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        builder
    };
    routes
        .add_service(reflection().build_v1().expect("our own descriptors decode"))
        // Older grpcurl asks for this one.
        .add_service(reflection().build_v1alpha().expect("our own descriptors decode"))
}

/// gRPC clients name what they want; for them an empty list is never the wildcard.
fn traits_of(node: &Node) -> Traits {
    Traits { legacy_wildcard: !node.user_agent_name.starts_with("gRPC") }
}

/// The connections of a listener, ready for small updates.
fn accepted(listener: TcpListener) -> impl futures::Stream<Item = std::io::Result<TcpStream>> {
    futures::stream::unfold(listener, |listener| async {
        let connection = listener.accept().await.map(|(connection, _)| connection);
        match &connection {
            // An update must not wait for the ACK of the one before.
            Ok(connection) => {
                if let Err(error) = connection.set_nodelay(true) {
                    tracing::debug!(%error, "no TCP_NODELAY on a connection");
                }
            }
            // Mostly for want of file descriptors. tonic asks again at once, and would take a core
            // until there is one.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        Some((connection, listener))
    })
}
