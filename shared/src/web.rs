//! A small HTTP/1.1 server for a program's own pages: metrics, statistics, a button or two.
//!
//! Knows nothing of what the pages say: a function makes an answer of a request's head. Everything
//! is bounded, because whoever reaches the port may ask: connections at once, the time for one, and
//! a request's body, which is never read. One request a connection, so that an idle one holds nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::lifecycle::Lifecycle;

/// Connections that are served at once; more wait in the kernel's queue.
const AT_ONCE: usize = 64;

/// How long one connection may take, from its accept to the last byte of the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// How long to wait after the kernel refused to accept, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `answer` on `listener` in the background until `life` stops.
pub fn serve<F>(listener: TcpListener, life: &Lifecycle, answer: F)
where
    F: Fn(&http::request::Parts) -> Response<String> + Send + Sync + 'static,
{
    let (answer, inner) = (Arc::new(answer), life.clone());
    life.spawn(async move {
        let stop = inner.token();
        stop.run_until_cancelled(accept(listener, &inner, answer)).await;
    });
}

async fn accept<F>(listener: TcpListener, life: &Lifecycle, answer: Arc<F>)
where
    F: Fn(&http::request::Parts) -> Response<String> + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (answer, stop) = (Arc::clone(&answer), life.token());
        life.spawn(async move {
            let _place = place;
            let answered = tokio::time::timeout(LIMIT, answer_one(connection, answer));
            if let Some(Ok(Err(error))) = stop.run_until_cancelled(answered).await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
}

async fn answer_one<F>(connection: TcpStream, answer: Arc<F>) -> Result<(), hyper::Error>
where
    F: Fn(&http::request::Parts) -> Response<String> + Send + Sync + 'static,
{
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (head, _) = request.into_parts();
        std::future::ready(Ok::<_, Infallible>(answer(&head)))
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).timer(TokioTimer::new()).max_buf_size(16 * 1024);
    server.serve_connection(TokioIo::new(connection), service).await
}

/// An answer of this type of content.
pub fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer as JSON.
pub fn json(status: StatusCode, value: &serde_json::Value) -> Response<String> {
    page(status, "application/json", format!("{value}\n"))
}
