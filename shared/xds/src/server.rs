//! The gRPC services: the aggregated one (ADS), one for each type, and optionally load reports.
//!
//! All I/O of the crate is here, except that of [`load_reports`](crate::load_reports). This file makes, starts and
//! drains a server. `service.rs` has the discovery services, and `stream_handler.rs` one stream on the wire.

mod context;

mod service;

mod stream_handler;

mod session;

mod request;

mod standard_services;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use context::ServerContext;
use envoy_types::pb::envoy::config::core::v3::Node;
use mesh_net::Limits;
use service::{Aggregated, Clusters, Discovery, Endpoints, Listeners, Routes, Secrets};
#[cfg(feature = "reflection")]
use standard_services::with_reflection;
#[cfg(feature = "health")]
use standard_services::{set_health, with_health};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::ServerTlsConfig;
#[cfg(feature = "health")]
use tonic_health::ServingStatus;

use crate::cache::Cache;
use crate::client_quirks::ClientQuirks;
use crate::event_log::EventLog;
use crate::load_reports::LoadReports;
#[cfg(feature = "metrics")]
use crate::metrics::Metrics;

/// How long clients may take to end their streams when the server stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// The default of [`ServerBuilder::dependency_timeout`]. Envoy requests endpoints, and answers, within milliseconds.
const DEPENDENCY_TIMEOUT: Duration = Duration::from_secs(5);

/// The default of [`ServerBuilder::limits`]. Each Envoy and each gRPC client has one connection; an Envoy without ADS
/// opens a stream for each resource that it subscribes to, and a second connection beyond this number.
const LIMITS: Limits = Limits { connections: 16_384, ..Limits::DEFAULT };

/// Why the server stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The listener, the TLS configuration or the HTTP/2 layer failed.
    #[error("the control plane's server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// An xDS server for a cache. Cheap to clone; clones serve the same cache.
#[derive(Clone)]
pub struct Server(Arc<ServerContext>);

/// The options of a server.
pub struct ServerBuilder(ServerContext);

impl ServerBuilder {
    /// Records requests and responses in `event_log`.
    #[must_use]
    pub fn event_log(mut self, event_log: EventLog) -> Self {
        self.0.event_log = Some(event_log);
        self
    }

    /// Counts requests, responses and streams.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.0.metrics = Some(metrics);
        self
    }

    /// Serves load reporting (LRS). Without it, clients that report loads get `UNIMPLEMENTED`.
    #[must_use]
    pub fn load_reports(mut self, load_reports: LoadReports) -> Self {
        self.0.load_reports = Some(load_reports);
        self
    }

    /// Sets how the server recognizes clients that read the protocol differently.
    #[must_use]
    pub fn quirks(mut self, quirks: impl Fn(&Node) -> ClientQuirks + Send + Sync + 'static) -> Self {
        self.0.quirks = Box::new(quirks);
        self
    }

    /// Sets how long listeners and routes wait for a client that does not request the endpoints of a cluster it was just
    /// sent, or does not answer a response with secrets (5 s by default).
    #[must_use]
    pub fn dependency_timeout(mut self, timeout: Duration) -> Self {
        self.0.dependency_timeout = timeout;
        self
    }

    /// Serves over TLS. With a client CA in `tls`, the server accepts only clients with a certificate that it signed.
    ///
    /// Plaintext is for loopback and for networks of containers that no other program uses: streams carry secrets.
    #[must_use]
    pub fn tls(mut self, tls: ServerTlsConfig) -> Self {
        self.0.tls = Some(tls);
        self
    }

    /// Sets how many connections and streams the server accepts, and how it notices clients that vanished. By default
    /// 16,384 connections with 1,000 streams each; a connection that does not begin within 10 s is closed.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// Makes the server.
    pub fn build(self) -> Server {
        Server(Arc::new(self.0))
    }
}

impl Server {
    /// A server for this cache that ends its streams when `stop` is cancelled.
    pub fn builder(cache: Arc<Cache>, stop: CancellationToken) -> ServerBuilder {
        ServerBuilder(ServerContext {
            cache,
            event_log: None,
            metrics: None,
            load_reports: None,
            quirks: Box::new(quirks_of),
            dependency_timeout: DEPENDENCY_TIMEOUT,
            tls: None,
            limits: LIMITS,
            streams: AtomicU64::new(0),
            open: AtomicU64::new(0),
            large_responses: Mutex::default(),
            stop,
        })
    }

    /// How many streams are open now.
    pub fn streams_open(&self) -> u64 {
        self.0.open.load(Ordering::Relaxed)
    }

    /// All xDS services, to add to a tonic server that you run yourself.
    pub fn routes(&self) -> tonic::service::Routes {
        let routes = tonic::service::Routes::new(Discovery::<Aggregated>::new(&self.0))
            .add_service(Discovery::<Clusters>::new(&self.0))
            .add_service(Discovery::<Endpoints>::new(&self.0))
            .add_service(Discovery::<Listeners>::new(&self.0))
            .add_service(Discovery::<Routes>::new(&self.0))
            .add_service(Discovery::<Secrets>::new(&self.0));
        match &self.0.load_reports {
            Some(load_reports) => routes.add_service(load_reports.service(self.0.stop.clone())),
            None => routes,
        }
    }

    /// Serves xDS on `listener` until the stop token is cancelled. With the features `health` and `reflection` it also
    /// serves those gRPC services.
    ///
    /// # Errors
    /// If the listener or the TLS configuration fails.
    pub async fn serve(self, listener: TcpListener) -> Result<(), ServerError> {
        let stop = self.0.stop.clone();
        let limits = self.0.limits;
        let mut server = mesh_net::grpc_server(limits);
        if let Some(tls) = &self.0.tls {
            server = server.tls_config(tls.clone())?;
        }
        let routes = self.routes();
        #[cfg(feature = "reflection")]
        let routes = with_reflection(routes);
        #[cfg(feature = "health")]
        let (health, routes) = with_health(routes).await;
        let serving = server.add_routes(routes).serve_with_incoming_shutdown(
            mesh_net::incoming(listener, limits),
            async {
                stop.cancelled().await;
                // Clients that watch the health service learn of the end before their connection closes.
                #[cfg(feature = "health")]
                set_health(&health, ServingStatus::NotServing).await;
            },
        );
        tokio::select! {
            served = serving => Ok(served?),
            () = async { stop.cancelled().await; tokio::time::sleep(DRAIN_LIMIT).await } => {
                tracing::warn!("some clients did not end their streams within {DRAIN_LIMIT:?}");
                Ok(())
            }
        }
    }
}

/// gRPC clients list the names that they want. For them an empty list is never the wildcard.
fn quirks_of(node: &Node) -> ClientQuirks {
    ClientQuirks { legacy_wildcard: !node.user_agent_name.starts_with("gRPC") }
}
