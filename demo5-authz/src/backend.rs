//! The service behind the authorizer: it greets, it says what reached it, and it counts.
//!
//! ```text
//! gRPC  mesh.hello.v1.Greeter: Hello, HelloNoAuth, DeleteGreeting
//! HTTP  GET, POST, DELETE /hello, GET /public, GET /vault
//! ```
//!
//! It decides nothing: it believes the header with the caller's name, which only Envoy can have set as long as only Envoy
//! can reach it. It repeats no header's value but that one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{any, get};
use http::{HeaderMap, Method, StatusCode};
use mesh_net::Limits;
use serde_json::json;
use shared::lifecycle::Lifecycle;
use shared::proto::DESCRIPTORS;
use shared::proto::hello::greeter_server::{Greeter, GreeterServer};
use shared::proto::hello::{Arrived, DeleteGreetingReply, DeleteGreetingRequest, HelloReply, HelloRequest};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::decision::PRINCIPAL_HEADER;

/// How long open calls may take once it is to stop.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// A running backend. Dropping the handle leaves it running: its [`Lifecycle`] owns it.
#[derive(Clone, Debug)]
pub struct Backend {
    address: SocketAddr,
    calls: Arc<AtomicU64>,
}

/// The service. Clones are the same one.
#[derive(Clone, Debug)]
struct GreeterService(Arc<AtomicU64>);

impl Backend {
    /// Serves on `listener` until `life` ends.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(listener: TcpListener, life: &Lifecycle) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let calls = Arc::new(AtomicU64::new(0));
        let service = GreeterService(Arc::clone(&calls));
        let stop = life.token();
        life.spawn(async move {
            let health = HealthReporter::new();
            let health_service = HealthService::from_health_reporter(health.clone());
            health.set_service_status("", ServingStatus::Serving).await;
            let reflection = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            let pages = axum::Router::new()
                .route("/hello", any(http_handler))
                .route("/public", get(http_handler))
                .route("/vault", get(http_handler))
                .with_state(service.clone())
                .fallback(unknown);
            let mut routes = Routes::from(pages);
            routes = routes
                .add_service(GreeterServer::new(service))
                .add_service(tonic_health::pb::health_server::HealthServer::new(health_service))
                .add_service(reflection.build_v1().expect("our own descriptors decode"));
            // The shortest request of HTTP/1 is shorter than the preface of HTTP/2.
            let limits = Limits { first_bytes: 16, ..Limits::default() };
            let server = mesh_net::grpc_server(limits)
                .accept_http1(true)
                .add_routes(routes)
                .serve_with_incoming_shutdown(
                    mesh_net::incoming(listener, limits),
                    stop.clone().cancelled_owned(),
                );
            let drained = async {
                stop.cancelled().await;
                health.set_service_status("", ServingStatus::NotServing).await;
                tokio::time::sleep(DRAIN_GRACE).await;
            };
            tokio::select! {
                served = server => if let Err(error) = served {
                    tracing::error!(%error, "the server broke off");
                },
                () = drained => {}
            }
        });
        Self { address, calls }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that reached it so far, of either kind.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl GreeterService {
    /// Counts a request, and says what reached us of it.
    fn record_request(&self, headers: &HeaderMap) -> Arrived {
        self.0.fetch_add(1, Ordering::Relaxed);
        // As one: were there two, it would show.
        let principals: Vec<_> = headers
            .get_all(PRINCIPAL_HEADER)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        Arrived { principal: principals.join(","), headers: names }
    }
}

#[tonic::async_trait]
impl Greeter for GreeterService {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let arrived = self.record_request(request.metadata().as_ref());
        let text = format!("Hello, {}!", request.into_inner().name);
        Ok(Response::new(HelloReply { text, arrived: Some(arrived) }))
    }

    async fn hello_no_auth(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        self.hello(request).await
    }

    async fn delete_greeting(
        &self,
        request: Request<DeleteGreetingRequest>,
    ) -> Result<Response<DeleteGreetingReply>, Status> {
        let arrived = self.record_request(request.metadata().as_ref());
        let deleted = request.into_inner().name;
        Ok(Response::new(DeleteGreetingReply { deleted, arrived: Some(arrived) }))
    }
}

async fn http_handler(
    State(service): State<GreeterService>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, axum::response::Response) {
    let Arrived { principal, headers } = service.record_request(&headers);
    let reply = json!({
        "text": if method == Method::DELETE { "Deleted." } else { "Hello!" },
        "principal": principal,
        "headers": headers,
        "body_bytes": body.len(),
    });
    let mut response = axum::response::Response::new(axum::body::Body::from(format!("{reply}\n")));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    (StatusCode::OK, response)
}

/// Answers a path that does not exist in the protocol of the request: gRPC clients expect a gRPC status.
async fn unknown(headers: HeaderMap) -> axum::response::Response {
    let media = headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    if media.starts_with(b"application/grpc") {
        let response =
            Status::unimplemented("this server does not have that method").into_http::<tonic::body::Body>();
        return response.map(axum::body::Body::new);
    }
    let mut response = axum::response::Response::new(axum::body::Body::from("not found\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
