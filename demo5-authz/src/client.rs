//! A client that keeps notes: what a call got, by gRPC or by HTTP, and after how long.
//!
//! With a token, a client certificate, both or neither, and with headers that nobody should send.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::Full;
use mesh_pki::Roots;
use mesh_pki::tls::{self, Alpn, Credentials, TlsError};
use shared::client::send_over;
use shared::proto::hello::greeter_client::GreeterClient;
use shared::proto::hello::{Arrived, DeleteGreetingRequest, HelloRequest};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::topology::SERVER_NAME;

mod call;

pub use call::{Call, CallError, CallResult, Operation, Protocol, grpc_code_name};

/// How long a call may take. Far more than the authorizer's timeout.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most that is read of an answer.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Somebody who calls one address.
#[derive(Clone)]
pub struct Caller {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    channel: Channel,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("address", &self.address).field("tls", &self.tls.is_some()).finish()
    }
}

impl Caller {
    /// One that speaks without TLS. Nothing is called yet.
    ///
    /// # Errors
    /// If the address makes no URI, which it does.
    pub fn plain(address: SocketAddr) -> Result<Self, CallError> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(CallError::new)?;
        Ok(Self { address, tls: None, channel: connect_lazy(&endpoint) })
    }

    /// One that speaks TLS, expects [`SERVER_NAME`] by these roots, and shows this certificate if it is asked.
    ///
    /// # Errors
    /// If certificates and TLS do not go together.
    pub fn tls(address: SocketAddr, roots: &Roots, own: Option<&Credentials>) -> Result<Self, TlsError> {
        let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(TlsError::Grpc)?;
        let endpoint = tls::grpc_client(roots, own).server_name(SERVER_NAME).secure(endpoint)?;
        let config = tls::client(roots, own, Alpn::Http1)?;
        Ok(Self { address, tls: Some(Arc::new(config)), channel: connect_lazy(&endpoint) })
    }

    /// Makes a call. gRPC calls share a connection; each HTTP call has its own.
    ///
    /// # Errors
    /// [`CallError`] if there was no answer of any kind.
    pub async fn call(&self, protocol: Protocol, call: &Call<'_>) -> Result<CallResult, CallError> {
        let started = Instant::now();
        let result = match protocol {
            Protocol::Grpc => self.grpc(call).await?,
            Protocol::Http => {
                let (method, path) = match call.operation {
                    Operation::Hello => (Method::GET, "/hello"),
                    Operation::Public => (Method::GET, "/public"),
                    Operation::Delete => (Method::DELETE, "/hello"),
                };
                self.http(method, path, call.headers()?, Bytes::new()).await?
            }
        };
        Ok(CallResult { duration: started.elapsed(), ..result })
    }

    async fn grpc(&self, call: &Call<'_>) -> Result<CallResult, CallError> {
        let mut client = GreeterClient::new(self.channel.clone());
        let metadata = tonic::metadata::MetadataMap::from_headers(call.headers()?);
        let name = "ana".to_owned();
        let hello = HelloRequest { name: name.clone() };
        let reply = match call.operation {
            Operation::Hello => {
                let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), hello);
                client
                    .hello(request)
                    .await
                    .map(|reply| split_reply(reply, |reply| (reply.text, reply.arrived)))
            }
            Operation::Public => {
                let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), hello);
                client
                    .hello_no_auth(request)
                    .await
                    .map(|reply| split_reply(reply, |reply| (reply.text, reply.arrived)))
            }
            Operation::Delete => {
                let delete = DeleteGreetingRequest { name };
                let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), delete);
                client
                    .delete_greeting(request)
                    .await
                    .map(|reply| split_reply(reply, |reply| (reply.deleted, reply.arrived)))
            }
        };
        match reply {
            Ok((headers, message, seen_by_backend)) => {
                Ok(result("OK".to_owned(), message, seen_by_backend, headers))
            }
            // Made up by our own side because there was nobody to answer.
            Err(status) if is_transport_error(&status) => Err(CallError::new(status)),
            Err(status) => {
                let headers = status.metadata().clone().into_headers();
                Ok(result(
                    grpc_code_name(status.code()).to_owned(),
                    status.message().to_owned(),
                    None,
                    headers,
                ))
            }
        }
    }

    /// Makes an HTTP call of any kind, on a connection of its own.
    ///
    /// # Errors
    /// [`CallError`] if there was no answer of any kind.
    pub async fn http(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<CallResult, CallError> {
        let started = Instant::now();
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(CallError::new)?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(http::header::HOST, HeaderValue::from_static(SERVER_NAME));
        let exchange = async {
            let tcp = TcpStream::connect(self.address).await.map_err(CallError::new)?;
            tcp.set_nodelay(true).map_err(CallError::new)?;
            match &self.tls {
                None => exchange(tcp, request).await,
                Some(config) => {
                    let host = ServerName::try_from(SERVER_NAME).map_err(CallError::new)?;
                    let connector = TlsConnector::from(Arc::clone(config));
                    exchange(connector.connect(host, tcp).await.map_err(CallError::new)?, request).await
                }
            }
        };
        let deadline_exceeded = |_| CallError(format!("no answer within {DEADLINE:?}"));
        let result = tokio::time::timeout(DEADLINE, exchange).await.map_err(deadline_exceeded)??;
        Ok(CallResult { duration: started.elapsed(), ..result })
    }
}

fn connect_lazy(endpoint: &Endpoint) -> Channel {
    endpoint.clone().tcp_nodelay(true).timeout(DEADLINE).connect_lazy()
}

fn result(
    status: String,
    message: String,
    seen_by_backend: Option<Arrived>,
    headers: HeaderMap,
) -> CallResult {
    CallResult { status, message, seen_by_backend, headers, duration: Duration::ZERO }
}

fn split_reply<T>(
    reply: tonic::Response<T>,
    parts: impl FnOnce(T) -> (String, Option<Arrived>),
) -> (HeaderMap, String, Option<Arrived>) {
    let (metadata, reply, _) = reply.into_parts();
    let (message, seen_by_backend) = parts(reply);
    (metadata.into_headers(), message, seen_by_backend)
}

async fn exchange<IO>(io: IO, request: http::Request<Full<Bytes>>) -> Result<CallResult, CallError>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let response = send_over(io, request, MAX_RESPONSE_BYTES).await;
    let (head, body) = response.map_err(|error| CallError::new(&*error))?.into_parts();
    let body = String::from_utf8_lossy(&body).into_owned();
    // Only the backend's own page says who called.
    let json: Option<serde_json::Value> = serde_json::from_str(&body).ok();
    let seen_by_backend = json.and_then(|json| {
        let principal = json.get("principal")?.as_str()?.to_owned();
        let names = json.get("headers")?.as_array()?.iter();
        Some(Arrived {
            principal,
            headers: names.filter_map(|name| Some(name.as_str()?.to_owned())).collect(),
        })
    });
    Ok(result(head.status.as_u16().to_string(), body, seen_by_backend, head.headers))
}

/// Whether the status tells of a connection, and not of an answer.
fn is_transport_error(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}
