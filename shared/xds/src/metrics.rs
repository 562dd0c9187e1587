//! The metrics of a server, for Prometheus.
//!
//! | metric | labels | counts |
//! |---|---|---|
//! | `xds_open_streams` | `variant` | streams open now |
//! | `xds_requests_total` | `type` | requests of any kind; `other` for types that are not served |
//! | `xds_responses_total` | `type` | responses made |
//! | `xds_acks_total`, `xds_nacks_total` | `type` | answers to a response that was still open |
//! | `xds_rejecting_streams` | `type` | open streams from which a rejected change is withheld |
//! | `xds_sent_bytes_total` | | bytes of messages handed to the connections |
//! | `xds_push_seconds` | | from a publication to its response being handed to the connection |
//!
//! Every label's counter is looked up once, here, so that a stream only adds to an atomic.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::resource_type::{PerType, ResourceType};
use crate::variant::XdsVariant;

/// Bounds of the push histogram: a push within one machine takes milliseconds, and one that waits for
/// a slow client's answer may take seconds.
const PUSH_BOUNDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The counters of one server, or of several together. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    open: [IntGauge; 2],
    requests: PerType<IntCounter>,
    other_requests: IntCounter,
    responses: PerType<IntCounter>,
    acks: PerType<IntCounter>,
    nacks: PerType<IntCounter>,
    rejecting: PerType<IntGauge>,
    bytes: IntCounter,
    push: Histogram,
}

impl Metrics {
    /// Makes the counters and registers them.
    ///
    /// # Errors
    /// If the registry has metrics of these names already; servers may share one `Metrics` instead.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), &["type"])?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let open = Opts::new("xds_open_streams", "Streams that are open now.");
        let open = IntGaugeVec::new(open, &["variant"])?;
        registry.register(Box::new(open.clone()))?;
        let requests = counter("xds_requests_total", "Requests received, ACKs and NACKs included.")?;
        let responses = counter("xds_responses_total", "Responses made.")?;
        let acks = counter("xds_acks_total", "Responses that clients accepted.")?;
        let nacks = counter("xds_nacks_total", "Responses that clients rejected.")?;
        let rejecting =
            Opts::new("xds_rejecting_streams", "Open streams from which a rejected change is withheld.");
        let rejecting = IntGaugeVec::new(rejecting, &["type"])?;
        registry.register(Box::new(rejecting.clone()))?;
        let bytes = IntCounter::new("xds_sent_bytes_total", "Bytes of messages handed to the connections.")?;
        registry.register(Box::new(bytes.clone()))?;
        let push = "Seconds from a publication to its response being handed to the connection.";
        let push = HistogramOpts::new("xds_push_seconds", push).buckets(PUSH_BOUNDS.to_vec());
        let push = Histogram::with_opts(push)?;
        registry.register(Box::new(push.clone()))?;
        let each = |counter: &IntCounterVec| {
            PerType::from_fn(|kind: ResourceType| counter.with_label_values(&[kind.service()]))
        };
        Ok(Self {
            // In the order of the enum's variants, which are the index.
            open: XdsVariant::NAMES.map(|variant| open.with_label_values(&[variant])),
            requests: each(&requests),
            other_requests: requests.with_label_values(&["other"]),
            responses: each(&responses),
            acks: each(&acks),
            nacks: each(&nacks),
            rejecting: PerType::from_fn(|kind| rejecting.with_label_values(&[kind.service()])),
            bytes,
            push,
        })
    }

    pub(crate) fn stream_opened(&self, variant: XdsVariant) {
        self.open[variant as usize].inc();
    }

    pub(crate) fn stream_closed(&self, variant: XdsVariant) {
        self.open[variant as usize].dec();
    }

    pub(crate) fn request_received(&self, kind: Option<ResourceType>) {
        kind.map_or(&self.other_requests, |kind| &self.requests[kind]).inc();
    }

    pub(crate) fn ack_received(&self, kind: ResourceType) {
        self.acks[kind].inc();
    }

    pub(crate) fn nack_received(&self, kind: ResourceType) {
        self.nacks[kind].inc();
    }

    pub(crate) fn rejections_changed(&self, before: &PerType<bool>, now: &PerType<bool>) {
        for (kind, is_rejected) in now.iter() {
            self.rejecting[kind].add(i64::from(*is_rejected) - i64::from(before[kind]));
        }
    }

    pub(crate) fn response_made(&self, kind: ResourceType) {
        self.responses[kind].inc();
    }

    pub(crate) fn bytes_sent(&self, bytes: usize) {
        self.bytes.inc_by(bytes as u64);
    }

    pub(crate) fn push_finished(&self, after: Duration) {
        self.push.observe(after.as_secs_f64());
    }
}

/// Returns the metrics in Prometheus' text format.
///
/// # Errors
/// If a metric in `registry` cannot be encoded.
pub fn text(registry: &Registry) -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&registry.gather())
}
