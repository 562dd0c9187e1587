//! A small HTTP client for everybody here: services call services with it, the load calls the front, and the story
//! asks Prometheus. Connections are kept, every request has a time limit, and of a body a bounded part is read.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// The largest body that is read, in bytes.
pub const MOST: usize = 32 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody there, or the connection broke.
    #[error("{uri} does not answer ({why})")]
    NoAnswer {
        /// What was asked.
        uri: Uri,
        /// What went wrong.
        why: String,
    },
    /// Nothing came in time.
    #[error("{uri} did not answer within {limit:?}")]
    TooSlow {
        /// What was asked.
        uri: Uri,
        /// The time it had.
        limit: Duration,
    },
}

/// A client. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
    limit: Duration,
}

impl Client {
    /// A client whose requests may take this long.
    pub fn new(limit: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limit));
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(30));
        Self { inner: builder.build(connector), limit }
    }

    /// Sends a request, and reads the whole answer.
    ///
    /// # Errors
    /// [`ClientError`]; an answer with a status of trouble is none.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ClientError> {
        let uri = request.uri().clone();
        let no_answer = |why: String| ClientError::NoAnswer { uri: uri.clone(), why };
        let sending = async {
            let answer = self.inner.request(request).await.map_err(|error| no_answer(causes(&error)))?;
            let (head, body) = answer.into_parts();
            let body =
                Limited::new(body, MOST).collect().await.map_err(|error| no_answer(error.to_string()))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let too_slow = |_| ClientError::TooSlow { uri: uri.clone(), limit: self.limit };
        tokio::time::timeout(self.limit, sending).await.map_err(too_slow)?
    }

    /// Gets `uri`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn get(&self, uri: Uri) -> Result<Response<Bytes>, ClientError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri;
        self.send(request).await
    }
}

/// An error and what it came from, in one line: "client error (Connect): connection refused".
fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(error.source(), |error| error.source());
    all.last().map_or_else(|| error.to_string(), ToString::to_string)
}
