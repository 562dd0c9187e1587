//! The upstream: an HTTP server that says its name, and nothing more than it has to.
//!
//! ```text
//! GET /            its name
//! GET /slow?ms=N   its name, N milliseconds later (at most 10,000)
//! GET /held        its name, once `release` is called: a request that is in flight for as long as one likes
//! ```

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use shared::lifecycle::Lifecycle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The longest that `/slow` waits.
const SLOWEST: Duration = Duration::from_secs(10);

/// A running app.
#[derive(Clone, Debug)]
pub struct App {
    name: Arc<str>,
    address: SocketAddr,
    /// How many requests wait at `/held`.
    held: Arc<watch::Sender<usize>>,
    released: CancellationToken,
}

impl App {
    /// Serves HTTP/1.1 and HTTP/2 on `listener` until `life` ends.
    ///
    /// # Errors
    /// If the listener has no address any more.
    pub fn start(name: &str, listener: TcpListener, life: &Lifecycle) -> std::io::Result<Self> {
        let app = Self {
            name: name.into(),
            address: listener.local_addr()?,
            held: Arc::new(watch::Sender::new(0)),
            released: CancellationToken::new(),
        };
        let (serving, scope) = (app.clone(), life.clone());
        life.spawn(async move {
            let stop = scope.token();
            while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
                match accepted {
                    Ok((connection, _)) => drop(scope.spawn(serving.clone().serve(connection, scope.token()))),
                    // A peer that went away before it was accepted; the listener itself is fine.
                    Err(error) => tracing::debug!(%error, "not accepted"),
                }
            }
        });
        Ok(app)
    }

    async fn serve(self, connection: TcpStream, stop: CancellationToken) {
        let service = service_fn(move |request| {
            let app = self.clone();
            async move { Ok::<_, Infallible>(app.answer(request).await) }
        });
        // Envoy speaks HTTP/2 to its upstreams here, curl mostly HTTP/1.1.
        let builder = auto::Builder::new(TokioExecutor::new());
        let serving = builder.serve_connection(TokioIo::new(connection), service);
        tokio::pin!(serving);
        tokio::select! {
            _ = serving.as_mut() => return,
            () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
        }
        // Requests in flight may end; who keeps the connection open for longer is cut.
        _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/" => {}
            "/held" => {
                self.held.send_modify(|held| *held += 1);
                self.released.cancelled().await;
                self.held.send_modify(|held| *held -= 1);
            }
            "/slow" => match slowness(request.uri().query().unwrap_or_default()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return text(StatusCode::BAD_REQUEST, "ask for /slow?ms=N with N up to 10000\n"),
            },
            _ => return text(StatusCode::NOT_FOUND, "there is /, /slow?ms=N and /held\n"),
        }
        text(StatusCode::OK, &self.name)
    }

    /// The name that it answers with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a request waits at `/held`.
    pub async fn holding(&self) {
        // The sender lives as long as we do, so that an error cannot come.
        _ = self.held.subscribe().wait_for(|held| *held > 0).await;
    }

    /// Lets requests at `/held` go on, those to come too.
    pub fn release(&self) {
        self.released.cancel();
    }
}

fn slowness(query: &str) -> Option<Duration> {
    let ms = query.strip_prefix("ms=")?.parse().ok()?;
    Some(Duration::from_millis(ms)).filter(|wait| *wait <= SLOWEST)
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_owned()));
    *response.status_mut() = status;
    response
}
