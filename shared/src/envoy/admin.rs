//! Envoy's own account of itself: its admin interface, over HTTP, as types.
//!
//! This file owns the connection; `admin/responses.rs` and `admin/config_dump.rs` read what comes back, and are pure. Of the interface
//! only what the demos ask for is here; the rest is on
//! [Envoy's page about it](https://www.envoyproxy.io/docs/envoy/v1.40.0/operations/admin).

mod responses;

mod config_dump;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{Full, LengthLimitError};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::client;

pub use config_dump::{DynamicResource, ResourceKind, ResourceState};
pub use responses::{Bucket, Cluster, Health, Host, Listener, Locality};

/// How long one question may take in all. Envoy answers from its main thread, which may be busy with a new
/// configuration.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes: a configuration dump of many thousand endpoints.
pub const MAX_RESPONSE_SIZE: usize = 64 << 20;

/// Why the admin interface gave no answer that makes sense.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nothing listens there.
    #[error("cannot reach Envoy's admin interface at {address}: does Envoy still run?")]
    Unreachable {
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It took the question and did not answer in time.
    #[error("Envoy did not answer {path} within {REQUEST_TIMEOUT:?}")]
    Timeout {
        /// What was asked.
        path: String,
    },
    /// The connection broke, or something that is not HTTP came back.
    #[error("Envoy's answer to {path} broke off")]
    Interrupted {
        /// What was asked.
        path: String,
        /// What went wrong with the connection.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More came back than this process is willing to hold.
    #[error("Envoy's answer to {path} is larger than {MAX_RESPONSE_SIZE} bytes: ask for less, with a filter")]
    TooLarge {
        /// What was asked.
        path: String,
    },
    /// Envoy does not serve yet, or no longer.
    #[error("Envoy is not ready: it says {state}")]
    NotReady {
        /// Its state in its own words: `PRE_INITIALIZING`, `INITIALIZING` or `DRAINING`.
        state: String,
    },
    /// Envoy refused the question.
    #[error("Envoy refused {path} ({status}): {body}")]
    ErrorStatus {
        /// What was asked.
        path: String,
        /// The HTTP status.
        status: StatusCode,
        /// The first line of what it said.
        body: String,
    },
    /// The answer is not what this Envoy's version documents.
    #[error("Envoy's answer to {path} cannot be read: is it a version other than 1.40?")]
    Unreadable {
        /// What was asked.
        path: String,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
}

/// The admin interface of one Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admin {
    address: SocketAddr,
}

impl Admin {
    /// The admin interface at `address`. Nothing is asked yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether Envoy takes traffic.
    ///
    /// # Errors
    /// [`AdminError::NotReady`] with its state if it does not; the others if it cannot be asked.
    pub async fn ready(&self) -> Result<(), AdminError> {
        match self.get("/ready").await {
            Ok(_) => Ok(()),
            Err(AdminError::ErrorStatus { status, body, .. })
                if status == StatusCode::SERVICE_UNAVAILABLE =>
            {
                Err(AdminError::NotReady { state: body })
            }
            Err(error) => Err(error),
        }
    }

    /// Its listeners with the addresses that they are bound to; a configured port 0 shows as the port it got.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn listeners(&self) -> Result<Vec<Listener>, AdminError> {
        self.read("/listeners?format=json", responses::listeners).await
    }

    /// The counters and gauges whose names match `filter`, a regular expression that may match anywhere in the name.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>, AdminError> {
        let path = format!("/stats?format=json&filter={}", encode(filter));
        self.read(&path, responses::stats).await
    }

    /// The histograms whose names match `filter`, as they were when Envoy last merged what its workers had noted:
    /// every five seconds, unless `stats_flush_interval` says otherwise.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn histograms(&self, filter: &str) -> Result<BTreeMap<String, Vec<Bucket>>, AdminError> {
        let path = format!("/stats?format=json&histogram_buckets=detailed&filter={}", encode(filter));
        self.read(&path, responses::histograms).await
    }

    /// Its clusters, each host with its health and its own statistics.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn clusters(&self) -> Result<Vec<Cluster>, AdminError> {
        self.read("/clusters?format=json", responses::clusters).await
    }

    /// Everything that it was told and by which version, as Envoy writes it; with the endpoints.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn config_dump(&self) -> Result<Value, AdminError> {
        self.read("/config_dump?include_eds", |body| serde_json::from_slice(body)).await
    }

    /// The resources that a control plane gave it, in the order of [`ResourceKind`], each with its version and state.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn dynamic_resources(&self) -> Result<Vec<DynamicResource>, AdminError> {
        self.read("/config_dump?include_eds", config_dump::dynamic_resources).await
    }

    async fn read<T>(
        &self,
        path: &str,
        parse: impl FnOnce(&[u8]) -> serde_json::Result<T>,
    ) -> Result<T, AdminError> {
        let body = self.get(path).await?;
        parse(&body).map_err(|source| AdminError::Unreadable { path: path.to_owned(), source })
    }

    async fn get(&self, path: &str) -> Result<Bytes, AdminError> {
        let exchange = self.send(path);
        let response = tokio::time::timeout(REQUEST_TIMEOUT, exchange).await;
        response.unwrap_or_else(|_| Err(AdminError::Timeout { path: path.to_owned() }))
    }

    /// Sends one request over its own connection, because Envoy may have been restarted since the last one.
    async fn send(&self, path: &str) -> Result<Bytes, AdminError> {
        let interrupted = |source: Box<dyn std::error::Error + Send + Sync>| {
            let path = path.to_owned();
            match source.downcast_ref::<LengthLimitError>() {
                Some(_) => AdminError::TooLarge { path },
                None => AdminError::Interrupted { path, source },
            }
        };
        let stream = TcpStream::connect(self.address).await;
        let stream = stream.map_err(|source| AdminError::Unreachable { address: self.address, source })?;
        let request = Request::builder()
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .body(Full::default())
            .map_err(|error| interrupted(error.into()))?;
        let (head, body) =
            client::send_over(stream, request, MAX_RESPONSE_SIZE).await.map_err(interrupted)?.into_parts();
        let status = head.status;
        if status.is_success() {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body);
        Err(AdminError::ErrorStatus {
            path: path.to_owned(),
            status,
            body: text.lines().next().unwrap_or_default().to_owned(),
        })
    }
}

/// Percent-encodes all that is not safe in the value of a query.
fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            // Writing to a string does not fail.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}
