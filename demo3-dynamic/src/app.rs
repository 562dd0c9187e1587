//! The upstream: an HTTP server that says its name, and nothing more than it has to.
//!
//! ```text
//! GET /            its name
//! GET /slow?ms=N   its name, N milliseconds later (at most 10,000)
//! GET /held        its name, once `release` is called: a request that is in flight for as long as one likes
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use shared::lifecycle::Lifecycle;
use shared::web::{self, PageResponse, text};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The longest that `/slow` waits.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// A running app.
#[derive(Clone, Debug)]
pub struct App {
    name: Arc<str>,
    address: SocketAddr,
    /// How many requests wait at `/held`.
    waiting: Arc<watch::Sender<usize>>,
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
            waiting: Arc::new(watch::Sender::new(0)),
            released: CancellationToken::new(),
        };
        let app_clone = app.clone();
        web::serve(listener, life, move |request| {
            let app = app_clone.clone();
            async move { app.handle(&request).await }
        });
        Ok(app)
    }

    async fn handle(&self, request: &Request<Incoming>) -> PageResponse {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/" => {}
            "/held" => {
                self.waiting.send_modify(|waiting| *waiting += 1);
                self.released.cancelled().await;
                self.waiting.send_modify(|waiting| *waiting -= 1);
            }
            "/slow" => match parse_delay(request.uri().query().unwrap_or_default()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return text(StatusCode::BAD_REQUEST, "ask for /slow?ms=N with N up to 10000\n"),
            },
            _ => return text(StatusCode::NOT_FOUND, "there is /, /slow?ms=N and /held\n"),
        }
        text(StatusCode::OK, &*self.name)
    }

    /// The name that it answers with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until so many requests wait at `/held`.
    pub async fn wait_for_held(&self, requests: usize) {
        // The sender lives as long as we do, so that an error cannot come.
        _ = self.waiting.subscribe().wait_for(|waiting| *waiting >= requests).await;
    }

    /// Lets requests at `/held` go on, those to come too.
    pub fn release(&self) {
        self.released.cancel();
    }
}

fn parse_delay(query: &str) -> Option<Duration> {
    let ms = query.strip_prefix("ms=")?.parse().ok()?;
    Some(Duration::from_millis(ms)).filter(|wait| *wait <= MAX_DELAY)
}
