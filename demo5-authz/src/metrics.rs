//! What the authorizer counts, for Prometheus. Labels come from our own lists, never from a request.

use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::decision::Decision;

/// Upper ends of the buckets of a check's duration, in seconds.
const BUCKETS: [f64; 9] = [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 1e-2, 1e-1];

/// The counters. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    allowed: IntCounter,
    denied: IntCounterVec,
    seconds: Histogram,
    cache_hits: IntGauge,
    cache_misses: IntGauge,
    reloads: IntCounterVec,
    dropped: IntCounter,
}

impl Metrics {
    /// All of them at zero.
    ///
    /// # Errors
    /// If two have one name, which would be a defect.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self {
            registry: Registry::new(),
            allowed: IntCounter::new("authz_allowed_total", "Requests that were let through.")?,
            denied: IntCounterVec::new(
                Opts::new("authz_denied_total", "Requests that were refused, by reason."),
                &["reason"],
            )?,
            seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "authz_check_duration_seconds",
                    "How long a decision took, without the network.",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            cache_hits: IntGauge::new(
                "authz_token_cache_hits",
                "Checks whose token was known since the keys were loaded.",
            )?,
            cache_misses: IntGauge::new(
                "authz_token_cache_misses",
                "Checks whose token had to be verified since the keys were loaded.",
            )?,
            reloads: IntCounterVec::new(
                Opts::new(
                    "authz_reloads_total",
                    "Changed files that were read, by what they hold and what came of it.",
                ),
                &["kind", "result"],
            )?,
            dropped: IntCounter::new(
                "authz_log_lines_dropped_total",
                "Decisions that the log did not keep up with.",
            )?,
        };
        let all: [Box<dyn prometheus::core::Collector>; 7] = [
            Box::new(metrics.allowed.clone()),
            Box::new(metrics.denied.clone()),
            Box::new(metrics.seconds.clone()),
            Box::new(metrics.cache_hits.clone()),
            Box::new(metrics.cache_misses.clone()),
            Box::new(metrics.reloads.clone()),
            Box::new(metrics.dropped.clone()),
        ];
        for one in all {
            metrics.registry.register(one)?;
        }
        Ok(metrics)
    }

    /// Counts a decision, and notes how often tokens were known.
    pub fn count(&self, decision: &Decision, duration: Duration, (hits, misses): (u64, u64)) {
        match decision {
            Decision::Allow { .. } => self.allowed.inc(),
            Decision::Deny { reason } => self.denied.with_label_values(&[reason.name()]).inc(),
        }
        self.seconds.observe(duration.as_secs_f64());
        self.cache_hits.set(i64::try_from(hits).unwrap_or(i64::MAX));
        self.cache_misses.set(i64::try_from(misses).unwrap_or(i64::MAX));
    }

    /// Counts a file that was read again: what it holds, and whether it could be used.
    pub fn count_reload(&self, kind: &str, success: bool) {
        self.reloads.with_label_values(&[kind, if success { "success" } else { "failure" }]).inc();
    }

    /// Counts a line that the log dropped.
    pub fn count_dropped_line(&self) {
        self.dropped.inc();
    }

    /// Checks so far: allowed, and denied for whatever reason.
    pub fn checks(&self) -> (u64, u64) {
        (self.allowed.get(), self.seconds.get_sample_count().saturating_sub(self.allowed.get()))
    }

    /// All of them in Prometheus' text format.
    pub fn to_text(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => {
                tracing::error!(%error, "the metrics have no text form");
                String::new()
            }
        }
    }
}
