//! A small HTTP server: whatever a demo or a role serves apart from gRPC.
//!
//! Speaks HTTP/1.1 and HTTP/2 without TLS, stops with its [`Lifecycle`], and lets requests in flight end.
//! Routing is a `match` in the handler: no demo has more than a handful of paths.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Lifecycle;

/// What a handler answers.
pub type Answer = Response<Full<Bytes>>;

/// How long requests in flight may take once the server stops.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// Why a request's body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the handler takes.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    /// The client stopped sending.
    #[error("the body broke off")]
    Broken,
}

/// Serves `listener` in the background until `life` ends.
pub fn serve<H, F>(listener: TcpListener, life: &Lifecycle, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let scope = life.clone();
    life.spawn(async move {
        let stop = scope.token();
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((connection, _)) => drop(scope.spawn(answer(connection, handler.clone(), scope.token()))),
                // A peer that went away before it was accepted, or no file descriptor left for it. The pause
                // keeps the second from becoming a busy loop.
                Err(error) => {
                    tracing::debug!(%error, "not accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    });
}

async fn answer<H, F>(connection: TcpStream, handler: H, stop: CancellationToken)
where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(|request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    tokio::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    // Whoever keeps the connection open for longer is cut.
    _ = tokio::time::timeout(LAST_REQUESTS, serving).await;
}

/// The request's whole body, if it has at most `limit` bytes.
///
/// # Errors
/// [`BodyError`].
pub async fn body(request: Request<Incoming>, limit: usize) -> Result<Bytes, BodyError> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLong(limit)),
        Err(_) => Err(BodyError::Broken),
    }
}

/// An answer in plain text.
pub fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

/// An answer in JSON, ended by a newline for those who call from a terminal.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    with_type(status, "application/json", format!("{body:#}\n"))
}

fn with_type(status: StatusCode, media: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(media));
    answer
}
