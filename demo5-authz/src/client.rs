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

use crate::topology::HOST;

mod call;

pub use call::{Call, Failed, Protocol, Seen, Wish, name_of};

/// How long a call may take. Far more than the authorizer's timeout.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most that is read of an answer.
const ANSWER_LIMIT: usize = 64 * 1024;

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
    pub fn plain(address: SocketAddr) -> Result<Self, Failed> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(Failed::because)?;
        Ok(Self { address, tls: None, channel: lazy(&endpoint) })
    }

    /// One that speaks TLS, expects [`HOST`] by these roots, and shows this certificate if it is asked.
    ///
    /// # Errors
    /// If certificates and TLS do not go together.
    pub fn tls(address: SocketAddr, roots: &Roots, own: Option<&Credentials>) -> Result<Self, TlsError> {
        let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(TlsError::Grpc)?;
        let endpoint = tls::grpc_client(roots, own).server_name(HOST).secure(endpoint)?;
        let config = tls::client(roots, own, Alpn::Http1)?;
        Ok(Self { address, tls: Some(Arc::new(config)), channel: lazy(&endpoint) })
    }

    /// Makes a call. gRPC calls share a connection; each HTTP call has its own.
    ///
    /// # Errors
    /// [`Failed`] if there was no answer of any kind.
    pub async fn call(&self, protocol: Protocol, call: &Call<'_>) -> Result<Seen, Failed> {
        let begun = Instant::now();
        let seen = match protocol {
            Protocol::Grpc => self.grpc(call).await?,
            Protocol::Http => {
                let (method, path) = match call.wish {
                    Wish::Hello => (Method::GET, "/hello"),
                    Wish::Public => (Method::GET, "/public"),
                    Wish::Delete => (Method::DELETE, "/hello"),
                };
                self.http(method, path, call.headers()?, Bytes::new()).await?
            }
        };
        Ok(Seen { took: begun.elapsed(), ..seen })
    }

    async fn grpc(&self, call: &Call<'_>) -> Result<Seen, Failed> {
        let mut client = GreeterClient::new(self.channel.clone());
        let metadata = tonic::metadata::MetadataMap::from_headers(call.headers()?);
        let name = "ana".to_owned();
        let hello = HelloRequest { name: name.clone() };
        let answer = match call.wish {
            Wish::Hello => {
                let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), hello);
                client.hello(request).await.map(|reply| take(reply, |reply| (reply.text, reply.arrived)))
            }
            Wish::Public => {
                let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), hello);
                client
                    .hello_no_auth(request)
                    .await
                    .map(|reply| take(reply, |reply| (reply.text, reply.arrived)))
            }
            Wish::Delete => {
                let delete = DeleteGreetingRequest { name };
                let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), delete);
                client
                    .delete_greeting(request)
                    .await
                    .map(|reply| take(reply, |reply| (reply.deleted, reply.arrived)))
            }
        };
        match answer {
            Ok((headers, said, arrived)) => Ok(seen("OK".to_owned(), said, arrived, headers)),
            // Made up by our own side because there was nobody to answer.
            Err(status) if from_transport(&status) => Err(Failed::because(status)),
            Err(status) => {
                let headers = status.metadata().clone().into_headers();
                Ok(seen(name_of(status.code()).to_owned(), status.message().to_owned(), None, headers))
            }
        }
    }

    /// Makes an HTTP call of any kind, on a connection of its own.
    ///
    /// # Errors
    /// [`Failed`] if there was no answer of any kind.
    pub async fn http(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Seen, Failed> {
        let begun = Instant::now();
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(Failed::because)?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(http::header::HOST, HeaderValue::from_static(HOST));
        let exchange = async {
            let tcp = TcpStream::connect(self.address).await.map_err(Failed::because)?;
            tcp.set_nodelay(true).map_err(Failed::because)?;
            match &self.tls {
                None => exchange(tcp, request).await,
                Some(config) => {
                    let host = ServerName::try_from(HOST).map_err(Failed::because)?;
                    let connector = TlsConnector::from(Arc::clone(config));
                    exchange(connector.connect(host, tcp).await.map_err(Failed::because)?, request).await
                }
            }
        };
        let late = |_| Failed(format!("no answer within {DEADLINE:?}"));
        let seen = tokio::time::timeout(DEADLINE, exchange).await.map_err(late)??;
        Ok(Seen { took: begun.elapsed(), ..seen })
    }
}

fn lazy(endpoint: &Endpoint) -> Channel {
    endpoint.clone().tcp_nodelay(true).timeout(DEADLINE).connect_lazy()
}

fn seen(status: String, said: String, arrived: Option<Arrived>, headers: HeaderMap) -> Seen {
    Seen { status, said, arrived, headers, took: Duration::ZERO }
}

fn take<T>(
    reply: tonic::Response<T>,
    parts: impl FnOnce(T) -> (String, Option<Arrived>),
) -> (HeaderMap, String, Option<Arrived>) {
    let (metadata, reply, _) = reply.into_parts();
    let (said, arrived) = parts(reply);
    (metadata.into_headers(), said, arrived)
}

async fn exchange<IO>(io: IO, request: http::Request<Full<Bytes>>) -> Result<Seen, Failed>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let response = send_over(io, request, ANSWER_LIMIT).await;
    let (head, body) = response.map_err(|error| Failed::because(&*error))?.into_parts();
    let body = String::from_utf8_lossy(&body).into_owned();
    // Only the backend's own page says who called.
    let page: Option<serde_json::Value> = serde_json::from_str(&body).ok();
    let arrived = page.and_then(|page| {
        let principal = page.get("principal")?.as_str()?.to_owned();
        let names = page.get("headers")?.as_array()?.iter();
        Some(Arrived {
            principal,
            headers: names.filter_map(|name| Some(name.as_str()?.to_owned())).collect(),
        })
    });
    Ok(seen(head.status.as_u16().to_string(), body, arrived, head.headers))
}

/// Whether the status tells of a connection, and not of an answer.
fn from_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}
