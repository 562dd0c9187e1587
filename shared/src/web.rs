//! A small HTTP server: what demos and roles serve apart from gRPC, where that has a port of its own.
//!
//! Speaks HTTP/1.1 and HTTP/2 without TLS, stops with its [`Lifecycle`], and lets requests in flight end.
//! Routing is a `match` in the handler: no demo has more than a handful of paths. Everything is bounded, because
//! whoever reaches the port may ask: how many connections there are at once; how long one is kept while it asks for
//! nothing, sends half a head, or does not read its answer; the time for a request's body; how much of a body is read.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Lifecycle;

/// What a handler answers.
pub type PageResponse = Response<Full<Bytes>>;

/// Connections that are served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;

/// How often a connection is looked at: one on which nothing was asked or answered since is closed, unless it waits for us.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after the kernel refused to accept, mostly for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// How long requests in flight may take once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a request's body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the handler takes.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    /// The client stopped sending.
    #[error("the body broke off")]
    Interrupted,
    /// The client sends it slowly, or not at all.
    #[error("the body did not come within {0:?}")]
    TimedOut(Duration),
}

/// Serves `listener` in the background until `life` ends.
pub fn serve<H, F>(listener: TcpListener, life: &Lifecycle, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = PageResponse> + Send + 'static,
{
    let scope = life.clone();
    life.spawn(async move {
        let (stop, permits) = (scope.token(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
        let next = async || {
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        while let Some((accepted, permit)) = stop.run_until_cancelled(next()).await {
            match accepted {
                Ok((connection, _)) => {
                    let serving_connection = answer(connection, handler.clone(), scope.token(), IDLE_TIMEOUT);
                    scope.spawn(async move {
                        serving_connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    });
}

/// What a connection asks for: how often it has begun to, and how often that came to an end.
#[derive(Debug, Default)]
struct Requests {
    started: AtomicU64,
    ended: AtomicU64,
}

/// A request in progress. Dropped with its answer, also if the client takes the request back.
struct RequestGuard(Arc<Requests>);

impl Requests {
    fn begin(self: &Arc<Self>) -> RequestGuard {
        self.started.fetch_add(1, Ordering::Relaxed);
        RequestGuard(Arc::clone(self))
    }

    /// Returns after a time of patience in which no request began, ended, or was in progress.
    ///
    /// One timer for a connection: hyper's own limit for a head sets one for each request, which can be measured.
    async fn wait_until_idle(&self, idle_timeout: Duration) {
        let mut before = None;
        loop {
            let now = (self.started.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed));
            if before == Some(now) && now.0 == now.1 {
                return;
            }
            before = Some(now);
            tokio::time::sleep(idle_timeout).await;
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

async fn answer<H, F>(connection: TcpStream, handler: H, stop: CancellationToken, idle_timeout: Duration)
where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = PageResponse> + Send + 'static,
{
    let requests = Arc::new(Requests::default());
    let service = service_fn(|request| {
        let (request_guard, answer) = (requests.begin(), handler(request));
        async move {
            let answer = answer.await;
            drop(request_guard);
            Ok::<_, Infallible>(answer)
        }
    });
    if let Err(error) = connection.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY on a connection");
    }
    let builder = auto::Builder::new(TokioExecutor::new());
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    tokio::pin!(serving);
    tokio::select! {
        // What has come is read before anybody loses patience.
        biased;
        _ = serving.as_mut() => return,
        () = requests.wait_until_idle(idle_timeout) => {}
        () = stop.cancelled() => {}
    }
    serving.as_mut().graceful_shutdown();
    // Whoever keeps the connection open for longer is cut.
    _ = tokio::time::timeout(DRAIN_TIMEOUT, serving).await;
}

/// The request's whole body, if it has at most `limit` bytes and is there within ten seconds.
///
/// # Errors
/// [`BodyError`].
pub async fn body(request: Request<Incoming>, limit: usize) -> Result<Bytes, BodyError> {
    read_body_within(BODY_TIMEOUT, request, limit).await
}

async fn read_body_within(
    time: Duration,
    request: Request<Incoming>,
    limit: usize,
) -> Result<Bytes, BodyError> {
    let whole = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(time, whole).await.map_err(|_| BodyError::TimedOut(time))? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLong(limit)),
        Err(_) => Err(BodyError::Interrupted),
    }
}

/// An answer in plain text.
pub fn text(status: StatusCode, body: impl Into<String>) -> PageResponse {
    page(status, "text/plain; charset=utf-8", body.into())
}

/// An answer in JSON, ended by a newline for those who call from a terminal.
pub fn json(status: StatusCode, body: &serde_json::Value) -> PageResponse {
    page(status, "application/json", format!("{body:#}\n"))
}

/// Metrics in Prometheus' text format, or why there are none.
pub fn metrics<E: std::fmt::Display>(text: Result<String, E>) -> PageResponse {
    match text {
        Ok(text) => page(StatusCode::OK, "text/plain; version=0.0.4", text),
        Err(error) => self::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Serves `GET /metrics` on `listener` in the background until `life` ends.
pub fn serve_metrics<F, E>(listener: TcpListener, life: &Lifecycle, read: F)
where
    F: Fn() -> Result<String, E> + Clone + Send + Sync + 'static,
    E: std::fmt::Display,
{
    serve(listener, life, move |request| {
        std::future::ready(match (request.method(), request.uri().path()) {
            (&http::Method::GET, "/metrics") => metrics(read()),
            _ => text(StatusCode::NOT_FOUND, "there is GET /metrics\n"),
        })
    });
}

/// An answer of this type of content.
pub fn page(status: StatusCode, media: &'static str, body: String) -> PageResponse {
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
            match read_body_within(Duration::from_millis(20), request, 100).await {
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

    const SHORT: Duration = Duration::from_millis(20);

    /// A connection whose other end is served with so much patience, by a handler that takes this long.
    async fn serve_one(idle_timeout: Duration, takes: Duration) -> (TcpStream, impl Future<Output = ()>) {
        let (listener, address) = listener().await;
        let client = TcpStream::connect(address).await.unwrap();
        let (connection, _) = listener.accept().await.unwrap();
        let handler = move |_| async move {
            tokio::time::sleep(takes).await;
            text(StatusCode::OK, "at last")
        };
        (client, answer(connection, handler, CancellationToken::new(), idle_timeout))
    }

    #[tokio::test]
    async fn whoever_asks_for_nothing_loses_its_place() {
        // Neither a byte, nor half a head, nor the beginning of what could become HTTP/2.
        for beginning in ["", "GET / HT", "PRI * HTTP/2"] {
            let (mut client, serving_connection) = serve_one(SHORT, Duration::ZERO).await;
            client.write_all(beginning.as_bytes()).await.unwrap();
            tokio::time::timeout(GRACE, serving_connection).await.expect(beginning);
        }
    }

    #[tokio::test]
    async fn whoever_has_asked_before_loses_its_place_too() {
        for next in ["", "GET / HT"] {
            let (mut client, serving_connection) = serve_one(SHORT, Duration::ZERO).await;
            let asks = format!("GET / HTTP/1.1\r\nhost: x\r\n\r\n{next}");
            client.write_all(asks.as_bytes()).await.unwrap();
            tokio::time::timeout(GRACE, serving_connection).await.expect(next);
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("at last"), "{next}: {answer}");
        }
    }

    #[tokio::test]
    async fn whoever_keeps_a_connection_of_http_2_loses_its_place_too() {
        // Enough for a handshake on a busy machine.
        let (client, serving_connection) = serve_one(SHORT * 25, Duration::ZERO).await;
        let asking = async {
            let io = TokioIo::new(client);
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
            let (mut sender, connection) = handshake.unwrap();
            let connection = tokio::spawn(connection);
            let request = Request::get("http://x/").body(Full::<Bytes>::default()).unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
            // The sender is kept: it is the server who ends the connection.
            connection.await.unwrap().unwrap();
            drop(sender);
        };
        tokio::time::timeout(GRACE, async { tokio::join!(serving_connection, asking) }).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_a_silence() {
        let (mut client, serving_connection) = serve_one(SHORT, SHORT * 5).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        tokio::time::timeout(GRACE, serving_connection).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("at last"), "{answer}");
    }
}
