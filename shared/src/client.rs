//! HTTP clients: one that keeps connections, and one request over a connection of the caller's.
//!
//! Each reads a bounded part of a body. Two clients are not built from these: demo 3's and that of
//! [`reuseport`](crate::reuseport) hold a connection open as a value, because which connection a request takes is what
//! they measure.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

/// The largest body that is read, in bytes.
pub const MAX_BODY_SIZE: usize = 32 << 20;

/// No complete response arrived.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No server listens there, or the connection broke.
    #[error("{uri} does not answer ({why})")]
    NoResponse {
        /// The request.
        uri: Uri,
        /// What went wrong.
        why: String,
    },
    /// The response did not arrive in time.
    #[error("{uri} did not answer within {limit:?}")]
    Timeout {
        /// The request.
        uri: Uri,
        /// The time limit.
        limit: Duration,
    },
}

impl ClientError {
    /// Returns what went wrong, without the request.
    pub fn reason(&self) -> String {
        match self {
            Self::NoResponse { why, .. } => why.clone(),
            Self::Timeout { limit, .. } => format!("nothing came within {limit:?}"),
        }
    }
}

/// A client that keeps its connections. Clones share them.
#[derive(Clone, Debug)]
pub struct Client {
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
    limit: Duration,
}

impl Client {
    /// Creates a client with this time limit for each request.
    pub fn new(limit: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limit));
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(30));
        Self { inner: builder.build(connector), limit }
    }

    /// Sends a request, and reads the whole response.
    ///
    /// # Errors
    /// [`ClientError`]. A response with an error status is not an error.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ClientError> {
        let uri = request.uri().clone();
        let no_response = |why: String| ClientError::NoResponse { uri: uri.clone(), why };
        let exchange = async {
            let response =
                self.inner.request(request).await.map_err(|error| no_response(root_cause(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY_SIZE)
                .collect()
                .await
                .map_err(|error| no_response(error.to_string()))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let timed_out = |_| ClientError::Timeout { uri: uri.clone(), limit: self.limit };
        tokio::time::timeout(self.limit, exchange).await.map_err(timed_out)?
    }

    /// Sends `GET uri`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn get(&self, uri: Uri) -> Result<Response<Bytes>, ClientError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri;
        self.send(request).await
    }
}

/// Sends one request over this connection, reads at most `limit` bytes of the response's body, and closes the connection.
///
/// Use it if the connection matters: for TLS with a configuration of the caller, or if the server may have been restarted
/// since the last request, so that a kept connection would be stale.
///
/// # Errors
/// If the connection breaks, the response is not HTTP, or its body is larger (an [`http_body_util::LengthLimitError`]).
pub async fn send_over<IO>(
    io: IO,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Response<Bytes>, Box<dyn Error + Send + Sync>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, limit).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    // The connection makes progress only while it is polled: here, and not in a task that would outlive a caller that
    // gives up.
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        response = &mut exchange => response,
        _ = connection => exchange.await,
    }
}

/// Returns the text of the innermost cause. The outer ones say only "transport error" or "client error (Connect)".
pub fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
