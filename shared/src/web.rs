//! A small HTTP server: whatever a demo or a role serves apart from gRPC.
//!
//! Speaks HTTP/1.1 and HTTP/2 without TLS, stops with its [`Lifecycle`], and lets requests in flight end.
//! Routing is a `match` in the handler: no demo has more than a handful of paths. Everything is bounded,
//! because whoever reaches the port may ask: connections at once, the time until a connection asks for something, the
//! time for a request's head and for its body, and the part of a body that is read. Not bounded is how long
//! a client of HTTP/2 keeps a connection on which it has asked before, nor how slowly an answer is read.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Lifecycle;

/// What a handler answers.
pub type Answer = Response<Full<Bytes>>;

/// Connections that are served at once; more wait in the kernel's queue.
const AT_ONCE: usize = 256;

/// How long a client may take to send the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take to send the body of a request.
const SENDING_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait after the kernel refused to accept, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

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
    /// The client sends it slowly, or not at all.
    #[error("the body did not come within {0:?}")]
    Late(Duration),
}

/// Serves `listener` in the background until `life` ends.
pub fn serve<H, F>(listener: TcpListener, life: &Lifecycle, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let scope = life.clone();
    life.spawn(async move {
        let (stop, places) = (scope.token(), Arc::new(Semaphore::new(AT_ONCE)));
        let next = async || {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        while let Some((accepted, place)) = stop.run_until_cancelled(next()).await {
            match accepted {
                Ok((connection, _)) => {
                    let answering = answer(connection, handler.clone(), scope.token(), HEAD_LIMIT);
                    scope.spawn(async move {
                        answering.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
}

async fn answer<H, F>(connection: TcpStream, handler: H, stop: CancellationToken, patience: Duration)
where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let asked = Notify::new();
    let service = service_fn(|request| {
        asked.notify_one();
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    if let Err(error) = connection.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY on a connection");
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    tokio::pin!(serving);
    // Whoever connects and says nothing has not begun with a head either, and would keep its place for ever.
    let silent = async {
        if tokio::time::timeout(patience, asked.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = serving.as_mut() => return,
        () = silent => return,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    // Whoever keeps the connection open for longer is cut.
    _ = tokio::time::timeout(LAST_REQUESTS, serving).await;
}

/// The request's whole body, if it has at most `limit` bytes and is there within ten seconds.
///
/// # Errors
/// [`BodyError`].
pub async fn body(request: Request<Incoming>, limit: usize) -> Result<Bytes, BodyError> {
    body_within(SENDING_LIMIT, request, limit).await
}

async fn body_within(time: Duration, request: Request<Incoming>, limit: usize) -> Result<Bytes, BodyError> {
    let whole = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(time, whole).await.map_err(|_| BodyError::Late(time))? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLong(limit)),
        Err(_) => Err(BodyError::Broken),
    }
}

/// An answer in plain text.
pub fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    page(status, "text/plain; charset=utf-8", body.into())
}

/// An answer in JSON, ended by a newline for those who call from a terminal.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    page(status, "application/json", format!("{body:#}\n"))
}

/// An answer of this type of content.
pub fn page(status: StatusCode, media: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(media));
    answer
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::lifecycle::GRACE;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn half_a_body_is_not_waited_for_for_ever() {
        let (life, (listener, address)) = (Lifecycle::default(), listener().await);
        serve(listener, &life, |request| async {
            match body_within(Duration::from_millis(20), request, 100).await {
                Ok(_) => text(StatusCode::OK, "all of it"),
                Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
            }
        });
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        let mut answer = String::new();
        // The server closes too: what is left of the body cannot be told from the next request.
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("did not come within"), "{answer}");
        life.shut_down(GRACE).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_asks_for_nothing_loses_its_place() {
        let (listener, address) = listener().await;
        // Neither a byte, nor half a head, nor the beginning of what could become HTTP/2.
        for beginning in ["", "GET / HT", "PRI * HTTP/2"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(beginning.as_bytes()).await.unwrap();
            let (connection, _) = listener.accept().await.unwrap();
            let handler = |_| async { text(StatusCode::OK, "") };
            let answering = answer(connection, handler, CancellationToken::new(), Duration::from_millis(20));
            tokio::time::timeout(GRACE, answering).await.expect(beginning);
        }
    }
}
