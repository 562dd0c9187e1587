//! Load reports (LRS): how many requests each client sent to each region.
//!
//! ```text
//!   Envoy ──"I am node web-1"──> server
//!   Envoy <──"report every 500 ms"── server
//!   Envoy ──cluster, locality, requests, interval──> server ──> LoadReports ── watch ──> your loop
//! ```
//!
//! Only the newest report of each client is kept, because a controller acts on the current load. What it makes of the
//! reports is its own business.
//!
//! Source: [`LoadReportingService`](https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/service/load_stats/v3/lrs.proto).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterStats;
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::{
    LoadReportingService, LoadReportingServiceServer,
};
use envoy_types::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use envoy_types::pb::google::protobuf;
use futures::Stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// What one client sent to the endpoints of one cluster in one region.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The client's node id.
    pub node: Arc<str>,
    /// The cluster.
    pub cluster: String,
    /// The region of the endpoints' locality.
    pub region: String,
    /// Requests started, per second.
    pub rate: f64,
    /// How many requests failed in the reported time.
    pub errors: u64,
    /// How many requests are in progress.
    pub in_progress: u64,
}

/// Each connected client's newest report, by stream.
type Newest = BTreeMap<u64, Vec<Load>>;

/// The newest load reports of all clients. Clones share them.
#[derive(Clone, Debug)]
pub struct LoadReports {
    newest: watch::Sender<Newest>,
    streams: Arc<AtomicU64>,
    interval: Duration,
}

impl LoadReports {
    /// Asks clients for a report per `interval`. Envoy keeps the interval only roughly; a report says which time it covers.
    pub fn with_interval(interval: Duration) -> Self {
        Self { newest: watch::Sender::default(), streams: Arc::default(), interval }
    }

    /// The newest loads of all clients.
    pub fn loads(&self) -> Vec<Load> {
        self.newest.borrow().values().flatten().cloned().collect()
    }

    /// Requests per second to each region of the clusters for which `clusters` is true, summed over all clients.
    pub fn by_region(&self, clusters: impl Fn(&str) -> bool) -> BTreeMap<String, f64> {
        let mut rates = BTreeMap::new();
        for load in self.newest.borrow().values().flatten().filter(|load| clusters(&load.cluster)) {
            *rates.entry(load.region.clone()).or_default() += load.rate;
        }
        rates
    }

    /// Returns a receiver that changes with every report. A slow receiver sees several reports as one change.
    pub fn subscribe(&self) -> watch::Receiver<impl Sized + use<>> {
        self.newest.subscribe()
    }

    /// The service, which ends its streams when `stop` is cancelled.
    pub(crate) fn service(
        &self,
        stop: CancellationToken,
    ) -> LoadReportingServiceServer<impl LoadReportingService> {
        LoadReportingServiceServer::new(Reporting { reports: self.clone(), stop })
    }
}

/// One client's newest report. Dropping it removes the report.
struct Reporter {
    reports: LoadReports,
    stream: u64,
    node: Arc<str>,
}

impl Reporter {
    fn record(&self, clusters: Vec<ClusterStats>) {
        let loads = clusters.into_iter().flat_map(|cluster| loads(&self.node, cluster)).collect();
        self.reports.newest.send_modify(|newest| {
            newest.insert(self.stream, loads);
        });
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        // A disconnected client sends no requests.
        self.reports.newest.send_modify(|newest| {
            newest.remove(&self.stream);
        });
    }
}

/// One cluster's part of a report.
fn loads(node: &Arc<str>, cluster: ClusterStats) -> Vec<Load> {
    // After a reconnect the interval is longer than requested, so the report's own interval counts. Without
    // one the rate is unknown.
    let seconds = cluster
        .load_report_interval
        .map_or(0.0, |interval| interval.seconds as f64 + f64::from(interval.nanos) / 1e9);
    if seconds <= 0.0 {
        return Vec::new();
    }
    let loads = cluster.upstream_locality_stats.into_iter().map(|stats| Load {
        node: Arc::clone(node),
        cluster: cluster.cluster_name.clone(),
        region: stats.locality.map(|locality| locality.region).unwrap_or_default(),
        rate: stats.total_issued_requests as f64 / seconds,
        errors: stats.total_error_requests,
        in_progress: stats.total_requests_in_progress,
    });
    loads.collect()
}

struct Reporting {
    reports: LoadReports,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl LoadReportingService for Reporting {
    type StreamLoadStatsStream = Pin<Box<dyn Stream<Item = Result<LoadStatsResponse, Status>> + Send>>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let stream = LoadStream {
            requests: request.into_inner(),
            reports: self.reports.clone(),
            stop: self.stop.clone(),
            reporter: None,
        };
        // The connection drives the stream, so no task can outlive it.
        let settings = futures::stream::unfold(stream, |mut stream| async {
            let settings = stream.next_settings().await?;
            Some((Ok(settings), stream))
        });
        Ok(Response::new(Box::pin(settings)))
    }
}

/// One client's stream of reports.
struct LoadStream {
    requests: Streaming<LoadStatsRequest>,
    reports: LoadReports,
    stop: CancellationToken,
    /// From the client's first request on.
    reporter: Option<Reporter>,
}

impl LoadStream {
    /// Records reports until the client has to be sent settings. None when the stream ends.
    async fn next_settings(&mut self) -> Option<LoadStatsResponse> {
        loop {
            // If a client vanished, the connection's keep-alive ends the requests.
            let request = self.stop.run_until_cancelled(self.requests.message()).await?.ok()??;
            if let Some(reporter) = &self.reporter {
                reporter.record(request.cluster_stats);
                continue;
            }
            // The first request identifies the client and has no report.
            let stream = self.reports.streams.fetch_add(1, Ordering::Relaxed);
            let node = request.node.unwrap_or_default().id.into();
            self.reporter = Some(Reporter { reports: self.reports.clone(), stream, node });
            return Some(settings(self.reports.interval));
        }
    }
}

/// Asks for all clusters, because a list of names would need a new response at each change. Envoy then also reports
/// the control plane's own cluster.
fn settings(interval: Duration) -> LoadStatsResponse {
    LoadStatsResponse {
        send_all_clusters: true,
        load_reporting_interval: Some(protobuf::Duration {
            seconds: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(interval.subsec_nanos()).unwrap_or(0),
        }),
        ..LoadStatsResponse::default()
    }
}
