//! What all streams of a server share.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio_util::sync::CancellationToken;
use tonic::transport::ServerTlsConfig;

use crate::cache::Cache;
use crate::client_quirks::ClientQuirks;
use crate::event_log::EventLog;
use crate::load_reports::LoadReports;
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::resource_type::ResourceType;
use crate::version::Version;

/// How many large responses are remembered, so that the set cannot grow without limit.
const LARGE_RESPONSES_KEPT: usize = 1000;

/// A server's cache and options, and the count of its streams.
pub(super) struct ServerContext {
    pub(super) cache: Arc<Cache>,
    pub(super) event_log: Option<EventLog>,
    pub(super) metrics: Option<Metrics>,
    pub(super) load_reports: Option<LoadReports>,
    pub(super) quirks: Box<dyn Fn(&Node) -> ClientQuirks + Send + Sync>,
    pub(super) dependency_timeout: Duration,
    pub(super) tls: Option<ServerTlsConfig>,
    pub(super) limits: mesh_net::Limits,
    /// How many streams there ever were, which numbers them.
    pub(super) streams: AtomicU64,
    /// How many streams are open.
    pub(super) open: AtomicU64,
    /// The large responses that were reported.
    pub(super) large_responses: Mutex<HashSet<(ResourceType, Version)>>,
    pub(super) stop: CancellationToken,
}

impl ServerContext {
    /// Whether a large response with this version has not been reported yet.
    pub(super) fn is_new_large_response(&self, kind: ResourceType, version: Version) -> bool {
        let mut reported = lock(&self.large_responses);
        if reported.len() == LARGE_RESPONSES_KEPT {
            reported.clear();
        }
        reported.insert((kind, version))
    }

    /// Updates the metrics, if the server has any.
    pub(super) fn count(&self, update: impl FnOnce(&Metrics)) {
        if let Some(metrics) = &self.metrics {
            update(metrics);
        }
    }
}
