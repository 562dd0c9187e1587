//! A service: it answers, calls others through its sidecar, counts what it does, and can be told to misbehave.
//!
//! ```text
//! GET /anything   its work: asks everybody whom it calls, and tells who answered
//! PUT /fault      {"delay_ms": 300, "error_percent": 20}; {} ends it
//! GET /metrics    rate, errors, duration (RED), and what is in flight, for Prometheus
//! ```
//!
//! `x-request-id` and `traceparent` are handed on, so that the parts of one request can be found again. Metrics are
//! named as Prometheus recommends ("Metric and label naming"): the unit stands in the name, and it is a base unit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::lifecycle::Lifecycle;
use shared::web::{self, PageResponse};
use tokio::net::TcpListener;

use shared::client::Client;

/// The headers that are handed on.
pub const HANDED_ON: [HeaderName; 2] =
    [HeaderName::from_static("x-request-id"), HeaderName::from_static("traceparent")];

/// The largest body of a `PUT /fault`, in bytes.
const BODY: usize = 4096;

/// How long a call of another service may take.
const CALL: Duration = Duration::from_secs(30);

/// Upper ends of the buckets of durations, in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// How a service misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// How much later it answers, in milliseconds; at most 10,000.
    pub delay_ms: u16,
    /// Of 100 requests, how many it answers with 503. Not by chance: every fifth one at 20 %.
    pub error_percent: u8,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    name: String,
    calls: Vec<(String, Uri)>,
    client: Client,
    fault: std::sync::Mutex<Fault>,
    /// Requests so far while a share of them is to fail.
    counted: AtomicU64,
    metrics: Metrics,
}

#[derive(Debug)]
struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: Histogram,
    in_flight: IntGauge,
    /// What it was told to do wrong, so that a dashboard can mark when.
    delay: Gauge,
    error_ratio: Gauge,
}

impl Metrics {
    fn new(service: &str) -> prometheus::Result<Self> {
        let registry = Registry::new_custom(None, Some([("service".to_owned(), service.to_owned())].into()))?;
        let requests = Opts::new("http_requests_total", "Requests that were answered, by status code.");
        let requests = IntCounterVec::new(requests, &["code"])?;
        // There from the start, so that the first error is an increase and not a beginning.
        for code in ["200", "502", "503"] {
            requests.with_label_values(&[code]);
        }
        let seconds = HistogramOpts::new("http_request_duration_seconds", "How long requests took.");
        let seconds = Histogram::with_opts(seconds.buckets(BUCKETS.to_vec()))?;
        let in_flight = IntGauge::new("http_requests_in_flight", "Requests that are being answered.")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        let delay = Gauge::new("fault_delay_seconds", "By how much answers are delayed on purpose.")?;
        let error_ratio = Gauge::new("fault_error_ratio", "The share of requests that fails on purpose.")?;
        registry.register(Box::new(delay.clone()))?;
        registry.register(Box::new(error_ratio.clone()))?;
        Ok(Self { registry, requests, seconds, in_flight, delay, error_ratio })
    }
}

/// Counts a request as in flight for as long as it lives, also if its client hangs up.
struct InFlight<'a>(&'a IntGauge);

impl<'a> InFlight<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Service {
    /// Starts a service that calls others, each by its name and the URI of a sidecar's route to it.
    ///
    /// # Errors
    /// If a URI is none, or the service's name does not do as a label.
    pub fn start<'a>(
        name: &str,
        calls: impl IntoIterator<Item = (&'a str, String)>,
        listener: TcpListener,
        life: &Lifecycle,
    ) -> anyhow::Result<Arc<Self>> {
        let call = |(name, uri): (&str, String)| {
            let parsed = uri.parse::<Uri>().with_context(|| format!("{uri} is no URI"))?;
            anyhow::ensure!(parsed.scheme_str() == Some("http"), "{uri} does not begin with http://");
            Ok((name.to_owned(), parsed))
        };
        let calls = calls.into_iter().map(call).collect::<anyhow::Result<_>>()?;
        let service = Arc::new(Self {
            name: name.to_owned(),
            calls,
            client: Client::new(CALL),
            fault: std::sync::Mutex::default(),
            counted: AtomicU64::new(0),
            metrics: Metrics::new(name)?,
        });
        let answering = Arc::clone(&service);
        web::serve(listener, life, move |request| Arc::clone(&answering).answer(request));
        Ok(service)
    }

    /// From now on it misbehaves like this.
    pub fn misbehave(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = fault;
        self.counted.store(0, Ordering::Relaxed);
        self.metrics.delay.set(f64::from(fault.delay_ms) / 1000.0);
        self.metrics.error_ratio.set(f64::from(fault.error_percent) / 100.0);
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> PageResponse {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => self.expose(),
            (&Method::PUT, "/fault") => self.put_fault(request).await,
            (_, "/metrics" | "/fault") => {
                web::text(StatusCode::METHOD_NOT_ALLOWED, "GET /metrics, PUT /fault\n")
            }
            (&Method::GET, _) => {
                let _in_flight = InFlight::new(&self.metrics.in_flight);
                let begun = Instant::now();
                let answer = self.work(request.headers()).await;
                self.metrics.seconds.observe(begun.elapsed().as_secs_f64());
                self.metrics.requests.with_label_values(&[answer.status().as_str()]).inc();
                answer
            }
            _ => web::text(StatusCode::METHOD_NOT_ALLOWED, "GET any path for its work\n"),
        }
    }

    async fn work(&self, headers: &HeaderMap) -> PageResponse {
        let fault = *self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if fault.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(fault.delay_ms.into())).await;
        }
        if fault.error_percent > 0 {
            let number = self.counted.fetch_add(1, Ordering::Relaxed);
            let share = u64::from(fault.error_percent);
            // Spread evenly: whenever the whole part of n times the share grows.
            if (number + 1) * share / 100 > number * share / 100 {
                return self.say(StatusCode::SERVICE_UNAVAILABLE, "was told to fail", headers);
            }
        }
        let mut answers = serde_json::Map::new();
        for (name, uri) in &self.calls {
            match self.call(uri, headers).await {
                Ok(answer) => drop(answers.insert(name.clone(), answer)),
                Err(why) => {
                    return self.say(StatusCode::BAD_GATEWAY, format!("{name}: {why}"), headers);
                }
            }
        }
        let said = if answers.is_empty() { "hello".into() } else { Value::Object(answers) };
        self.say(StatusCode::OK, said, headers)
    }

    async fn call(&self, uri: &Uri, headers: &HeaderMap) -> Result<Value, String> {
        let mut request = Request::new(Full::<Bytes>::default());
        *request.uri_mut() = uri.clone();
        for name in HANDED_ON {
            if let Some(value) = headers.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        let answer = self.client.send(request).await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("answered {}", answer.status()));
        }
        serde_json::from_slice(answer.body()).map_err(|error| error.to_string())
    }

    /// The page: who this is, what the others said, and the ids that came with the request.
    fn say(&self, status: StatusCode, said: impl Into<Value>, headers: &HeaderMap) -> PageResponse {
        let id = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let page = json!({
            "service": self.name,
            "said": said.into(),
            "request_id": id(&HANDED_ON[0]),
            "traceparent": id(&HANDED_ON[1]),
        });
        web::json(status, &page)
    }

    async fn put_fault(&self, request: Request<Incoming>) -> PageResponse {
        let wrong = |reason: String| {
            web::json(
                StatusCode::BAD_REQUEST,
                &json!({ "reason": reason, "example": { "delay_ms": 300, "error_percent": 20 } }),
            )
        };
        let body = match web::body(request, BODY).await {
            Ok(body) => body,
            Err(error) => return wrong(error.to_string()),
        };
        // An object, and not a list of its values, which serde would take too.
        let fault = serde_json::from_slice::<serde_json::Map<String, Value>>(&body);
        match fault.and_then(|fault| serde_json::from_value::<Fault>(Value::Object(fault))) {
            Ok(fault) if fault.delay_ms > 10_000 => wrong("delay_ms: at most 10000".to_owned()),
            Ok(fault) if fault.error_percent > 100 => wrong("error_percent: at most 100".to_owned()),
            Ok(fault) => {
                self.misbehave(fault);
                let Fault { delay_ms, error_percent } = fault;
                web::json(StatusCode::OK, &json!({ "delay_ms": delay_ms, "error_percent": error_percent }))
            }
            Err(error) => wrong(error.to_string()),
        }
    }

    fn expose(&self) -> PageResponse {
        let mut page = Vec::new();
        match TextEncoder::new().encode(&self.metrics.registry.gather(), &mut page) {
            Ok(()) => web::page(
                StatusCode::OK,
                "text/plain; version=0.0.4",
                String::from_utf8_lossy(&page).into_owned(),
            ),
            Err(error) => web::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}
