//! What all streams of a server share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio_util::sync::CancellationToken;
use tonic::transport::ServerTlsConfig;

use crate::cache::Cache;
use crate::client_quirks::ClientQuirks;
use crate::event_log::EventLog;
use crate::load_reports::LoadReports;
use crate::metrics::Metrics;

/// A server's cache and options, and the count of its streams.
pub(super) struct ServerContext {
    pub(super) cache: Arc<Cache>,
    pub(super) event_log: Option<EventLog>,
    pub(super) metrics: Option<Metrics>,
    pub(super) load_reports: Option<LoadReports>,
    pub(super) quirks: Box<dyn Fn(&Node) -> ClientQuirks + Send + Sync>,
    pub(super) eds_request_timeout: Duration,
    pub(super) tls: Option<ServerTlsConfig>,
    pub(super) limits: mesh_net::Limits,
    /// How many streams there ever were, which numbers them.
    pub(super) streams: AtomicU64,
    /// How many streams are open.
    pub(super) open: AtomicU64,
    pub(super) stop: CancellationToken,
}

impl ServerContext {
    /// Updates the metrics, if the server has any.
    pub(super) fn count(&self, update: impl FnOnce(&Metrics)) {
        if let Some(metrics) = &self.metrics {
            update(metrics);
        }
    }
}
