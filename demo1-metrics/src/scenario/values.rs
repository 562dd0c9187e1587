//! Queries and their values.

use anyhow::Context;

/// The window of rates and quantiles.
pub(super) const WINDOW: &str = "5s";

/// Why a claim that needs PromQL is not checked.
pub(super) const NO_PROMETHEUS: &str = "no Prometheus";

/// Returns the PromQL for a quantile of the request durations of clusters, in milliseconds.
pub(super) fn quantile(of: f64, selector: &str, window: &str) -> String {
    format!(
        "histogram_quantile({of}, sum by (le) (rate(envoy_cluster_upstream_rq_time_bucket{{{selector}}}[{window}])))"
    )
}

/// Formats a measured number, or says that there is none.
pub(super) fn display_value(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "no data".to_owned(), |value| format!("{value:.1} {unit}"))
}

/// Returns the value of a query that must have a result.
pub(super) fn require_value(value: Option<f64>, query: &str) -> anyhow::Result<f64> {
    value.with_context(|| format!("no data for {query}"))
}

/// Returns whether two counts are equal: they are whole numbers in floating point.
pub(super) fn counts_equal(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.5
}
