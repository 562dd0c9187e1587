//! Authorizers that fail, each in its own way. All of them would say yes, if they said anything.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::ext_authz::v3::pb::{Authorization, AuthorizationServer, CheckRequest, CheckResponse};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use shared::lifecycle::Lifecycle;
use shared::ports::ReservedPort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;

use crate::decision::Decision;
use crate::topology::loopback;

/// How long the slow one takes: five times as long as Envoy waits.
pub(super) const SLOW_DELAY: Duration = Duration::from_secs(1);

/// The most that is read before a connection is given up on, in bytes.
const MAX_REQUEST_BYTES: usize = 256 * 1024;

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody listens.
    Down,
    /// Connections open, and nothing ever comes back.
    BlackHole,
    /// It says yes, too late.
    Slow,
    /// It ends when it has read the question.
    Crash,
    /// It answers, and not in HTTP/2.
    NotHttp2,
    /// It answers in gRPC, and not with a CheckResponse.
    InvalidMessage,
    /// It answers in gRPC, with no bytes at all. That is a CheckResponse, all of whose fields have their defaults.
    EmptyResponse,
}

impl Fault {
    /// All of them.
    pub(super) const ALL: [Self; 7] = [
        Self::Down,
        Self::BlackHole,
        Self::Slow,
        Self::Crash,
        Self::NotHttp2,
        Self::InvalidMessage,
        Self::EmptyResponse,
    ];

    /// Its name among clusters and doors.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::BlackHole => "black-hole",
            Self::Slow => "slow",
            Self::Crash => "crash",
            Self::NotHttp2 => "not-http2",
            Self::InvalidMessage => "invalid-message",
            Self::EmptyResponse => "empty-response",
        }
    }

    /// In a sentence.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Down => "is down",
            Self::BlackHole => "is a black hole",
            Self::Slow => "is too slow",
            Self::Crash => "crashes in the middle of a call",
            Self::NotHttp2 => "answers with noise",
            Self::InvalidMessage => "answers with garbage in gRPC",
            Self::EmptyResponse => "answers with an empty message",
        }
    }

    /// Whether only Envoy's patience ends a call.
    pub(super) fn times_out(self) -> bool {
        matches!(self, Self::BlackHole | Self::Slow)
    }

    /// Starts such an authorizer.
    pub(super) async fn start(self, life: &Lifecycle) -> io::Result<SocketAddr> {
        if self == Self::Down {
            let reserved_port = ReservedPort::new(loopback(0))?;
            let address = reserved_port.address();
            let stop = life.token();
            life.spawn(async move {
                stop.cancelled().await;
                drop(reserved_port);
            });
            return Ok(address);
        }
        let listener = TcpListener::bind(loopback(0)).await?;
        let address = listener.local_addr()?;
        let stop = life.token();
        if self == Self::Slow {
            let server = tonic::transport::Server::builder()
                .add_service(AuthorizationServer::new(SlowAuthorizer))
                .serve_with_incoming(TcpListenerStream::new(listener));
            life.spawn(async move {
                // Its last, late answers are for nobody.
                _ = stop.run_until_cancelled(server).await;
            });
            return Ok(address);
        }
        let scope = life.clone();
        life.spawn(async move {
            while let Some(Ok((tcp, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (stop, serving) = (scope.token(), self.serve_fault(tcp));
                scope.spawn(async move { stop.run_until_cancelled(serving).await });
            }
        });
        Ok(address)
    }

    async fn serve_fault(self, mut tcp: TcpStream) {
        // What goes wrong on such a connection is no news.
        match self {
            Self::Crash => {
                _ = read_request(&mut tcp).await;
                // With a reset, as a process's death gives it to a peer whose bytes were not read.
                _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
            }
            Self::NotHttp2 => {
                if read_request(&mut tcp).await.is_ok() {
                    _ = tcp.write_all(&b"!\0\xff~".repeat(64)).await;
                    std::future::pending::<()>().await;
                }
            }
            Self::InvalidMessage => {
                serve(tcp, Bytes::from_static(&[0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff])).await;
            }
            Self::EmptyResponse => serve(tcp, Bytes::from_static(&[0, 0, 0, 0, 0])).await,
            Self::Down | Self::BlackHole | Self::Slow => std::future::pending().await,
        }
    }
}

/// Reads until the question is there. HTTP/2 packs headers, but not bodies: the path stands in it as it is.
async fn read_request(tcp: &mut TcpStream) -> io::Result<()> {
    let mut read = Vec::new();
    let has = |read: &[u8], text: &[u8]| read.windows(text.len()).any(|window| window == text);
    while !has(&read, b"/hello") && !has(&read, b"/mesh.hello.v1.Greeter/") {
        if read.len() > MAX_REQUEST_BYTES || tcp.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Answers every call on this connection with status OK, and with this in place of a message.
async fn serve(tcp: TcpStream, message: Bytes) {
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let message = message.clone();
        async move {
            // To the end of the question, or the answer would be a reset.
            _ = request.into_body().collect().await;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body =
                Full::new(message).with_trailers(std::future::ready(Some(Ok::<_, Infallible>(trailers))));
            let mut response = Response::new(body);
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(header::CONTENT_TYPE, grpc);
            Ok::<_, Infallible>(response)
        }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    _ = server.serve_connection(TokioIo::new(tcp), service).await;
}

/// Says yes, when nobody waits for it any more.
struct SlowAuthorizer;

#[tonic::async_trait]
impl Authorization for SlowAuthorizer {
    async fn check(&self, _: tonic::Request<CheckRequest>) -> Result<tonic::Response<CheckResponse>, Status> {
        tokio::time::sleep(SLOW_DELAY).await;
        Ok(tonic::Response::new(Decision::Allow { headers: Vec::new() }.to_response(false)))
    }
}
