//! Questions in PromQL, by Prometheus' HTTP interface ("HTTP API" in its documentation).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::Uri;
use serde::Deserialize;
use shared::poll::{self, TimedOut};

use super::error::PrometheusError;
use shared::client::Client;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long it may take until everybody was scraped.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(60);

/// A Prometheus that can be asked; it need not be ours.
#[derive(Clone, Debug)]
pub struct Api {
    address: SocketAddr,
    client: Client,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its points in time: seconds since 1970, value. One, unless a range was asked for.
    pub points: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct ApiResponse {
    #[serde(default)]
    data: Option<QueryData>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct QueryData {
    #[serde(default, rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct RawSeries {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl From<RawSeries> for Series {
    fn from(one: RawSeries) -> Self {
        let points = one.value.into_iter().chain(one.values);
        // "NaN" and "+Inf" are numbers too.
        let points = points.filter_map(|(at, value)| Some((at, value.parse().ok()?)));
        Self { labels: one.metric, points: points.collect() }
    }
}

impl Api {
    /// The Prometheus at this address. Nothing is asked yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, client: Client::new(RESPONSE_TIMEOUT) }
    }

    /// Where its pages are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it takes questions.
    ///
    /// # Errors
    /// What it answered instead.
    pub async fn ready(&self) -> Result<(), String> {
        let response = self.client.get(self.uri("/-/ready")).await.map_err(|error| error.to_string())?;
        if response.status().is_success() { Ok(()) } else { Err(response.status().to_string()) }
    }

    /// What a PromQL expression gives at this moment.
    ///
    /// # Errors
    /// [`PrometheusError`] if it cannot be asked, or refuses the expression.
    pub async fn instant(&self, query: &str, at: SystemTime) -> Result<Vec<Series>, PrometheusError> {
        self.query(query, &format!("/api/v1/query?query={}&time={}", encode(query), seconds(at))).await
    }

    /// The value of an expression's only series; `None` if it gives no series, or "not a number".
    ///
    /// # Errors
    /// As [`instant`](Self::instant).
    pub async fn value(&self, query: &str, at: SystemTime) -> Result<Option<f64>, PrometheusError> {
        let series = self.instant(query, at).await?;
        let value = series.first().and_then(|one| one.points.first()).map(|(_, value)| *value);
        Ok(value.filter(|value| !value.is_nan()))
    }

    /// What an expression gives from `since` to `until`, a point each `step`.
    ///
    /// # Errors
    /// As [`instant`](Self::instant).
    pub async fn range(
        &self,
        query: &str,
        (since, until): (SystemTime, SystemTime),
        step: Duration,
    ) -> Result<Vec<Series>, PrometheusError> {
        let span = format!("start={}&end={}&step={}", seconds(since), seconds(until), step.as_secs_f64());
        self.query(query, &format!("/api/v1/query_range?query={}&{span}", encode(query))).await
    }

    /// Waits until `targets` of them were scraped after this moment, successfully.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn wait_for_scrapes(&self, targets: usize) -> Result<(), TimedOut> {
        let started = seconds(SystemTime::now());
        let query = format!("count((up == 1) and (timestamp(up) > {started}))");
        poll::wait_until(
            "Prometheus to scrape everybody (does a target hang?)",
            POLL_INTERVAL,
            SCRAPE_TIMEOUT,
            || async {
                #[expect(clippy::cast_precision_loss, reason = "a handful")]
                let wanted = targets as f64;
                match self.value(&query, SystemTime::now()).await {
                    Ok(Some(fresh)) if fresh >= wanted => Ok(()),
                    Ok(fresh) => Err(format!("{} of {targets} are fresh", fresh.unwrap_or(0.0))),
                    Err(error) => Err(error.to_string()),
                }
            },
        )
        .await
    }

    async fn query(&self, query: &str, path: &str) -> Result<Vec<Series>, PrometheusError> {
        let response = self.client.get(self.uri(path)).await?;
        let rejected = |why: String| PrometheusError::QueryRejected { query: query.to_owned(), why };
        let envelope: ApiResponse =
            serde_json::from_slice(response.body()).map_err(|error| rejected(error.to_string()))?;
        let data = envelope.data.ok_or_else(|| rejected(envelope.error))?;
        if matches!(data.kind.as_str(), "scalar" | "string") {
            return Err(rejected(format!("it gives a {}, and no series", data.kind)));
        }
        let series: Vec<RawSeries> =
            serde_json::from_value(data.result).map_err(|error| rejected(error.to_string()))?;
        Ok(series.into_iter().map(Series::from).collect())
    }

    fn uri(&self, path: &str) -> Uri {
        // An address and a path that is encoded are always one.
        format!("http://{}{path}", self.address).parse().unwrap_or_default()
    }
}

/// Seconds since 1970.
pub fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Percent-encodes all but letters and digits.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(3 * text.len());
    for byte in text.bytes() {
        // Writing to a string does not fail.
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            other => _ = write!(encoded, "%{other:02X}"),
        }
    }
    encoded
}
