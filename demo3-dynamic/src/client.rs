//! A client that keeps notes: what each request got, over which certificate, and why it failed if it did.
//!
//! Plain HTTP/1.1 or TLS, on a fresh connection each time or on one that is kept, because Envoy treats
//! open connections and new ones differently when its listener or its certificate changes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use crate::topology::HOST_NAME;

mod load;
pub use load::{Load, summarize};

/// How long one request may take, connecting included.
const DEADLINE: Duration = Duration::from_secs(5);

/// The most that is read of an answer.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Where to send requests, and whom to trust there.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

/// The response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body: the app's name, if an app answered.
    pub body: String,
}

/// Why a request got no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No process listens on the port.
    #[error("connection refused")]
    ConnectionRefused,
    /// The network failed in another way.
    #[error("no connection: {0}")]
    ConnectFailed(String),
    /// The certificate was not accepted, or the other side speaks no TLS.
    #[error("no TLS: {0}")]
    TlsHandshake(String),
    /// The connection broke before the answer was complete.
    #[error("broke off: {0}")]
    ConnectionBroken(String),
    /// It took longer than five seconds.
    #[error("no answer in time")]
    Timeout,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).field("tls", &self.tls.is_some()).finish()
    }
}

impl Client {
    /// A client that speaks plain HTTP.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// A client that speaks TLS, expects [`HOST_NAME`], and trusts what `config` says.
    pub fn tls(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        Self { address, tls: Some(config) }
    }

    /// Asks for `path` on a connection of its own.
    ///
    /// # Errors
    /// [`RequestError`] if no answer came.
    pub async fn get(&self, path: &str) -> Result<Response, RequestError> {
        let request = async { self.connect().await?.get(path).await };
        tokio::time::timeout(DEADLINE, request).await.unwrap_or(Err(RequestError::Timeout))
    }

    /// Opens a connection that can be kept.
    ///
    /// # Errors
    /// [`RequestError`] if there is nobody, or nobody to be trusted.
    pub async fn connect(&self) -> Result<Connection, RequestError> {
        let connect = async {
            let tcp = TcpStream::connect(self.address).await.map_err(|error| match error.kind() {
                std::io::ErrorKind::ConnectionRefused => RequestError::ConnectionRefused,
                _ => RequestError::ConnectFailed(error.to_string()),
            })?;
            // Without it a request on a kept connection may wait 40 ms for the answer's ACK.
            tcp.set_nodelay(true).map_err(|error| RequestError::ConnectFailed(error.to_string()))?;
            let Some(config) = &self.tls else { return Connection::new(tcp, None).await };
            let host = ServerName::try_from(HOST_NAME)
                .map_err(|error| RequestError::TlsHandshake(error.to_string()))?;
            let connector = TlsConnector::from(Arc::clone(config));
            let tls = connector.connect(host, tcp).await;
            let tls = tls.map_err(|error| RequestError::TlsHandshake(error.to_string()))?;
            let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
            Connection::new(tls, certificate.map(CertificateDer::into_owned)).await
        };
        tokio::time::timeout(DEADLINE, connect).await.unwrap_or(Err(RequestError::Timeout))
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    requests: SendRequest<Empty<Bytes>>,
    certificate: Option<CertificateDer<'static>>,
}

impl Connection {
    async fn new<IO>(io: IO, certificate: Option<CertificateDer<'static>>) -> Result<Self, RequestError>
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http1::handshake(TokioIo::new(io)).await;
        let (requests, connection) =
            handshake.map_err(|error| RequestError::ConnectionBroken(error.to_string()))?;
        // Ends when `requests` is dropped or the other side closes; what went wrong is told to the request.
        tokio::spawn(connection);
        Ok(Self { requests, certificate })
    }

    /// The certificate that the other side showed.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_ref()
    }

    /// The connection, unless the other side has said that it closes it.
    pub async fn if_open(mut self) -> Option<Self> {
        self.requests.ready().await.is_ok().then_some(self)
    }

    /// Asks for `path`.
    ///
    /// # Errors
    /// [`RequestError`] if no whole answer came.
    pub async fn get(&mut self, path: &str) -> Result<Response, RequestError> {
        let connection_broken = |error: hyper::Error| RequestError::ConnectionBroken(error.to_string());
        let request = Request::get(path).header(http::header::HOST, HOST_NAME).body(Empty::new());
        let request = request.map_err(|error| RequestError::ConnectionBroken(error.to_string()))?;
        self.requests.ready().await.map_err(connection_broken)?;
        let response = self.requests.send_request(request).await.map_err(connection_broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
        let body = body.map_err(|error| RequestError::ConnectionBroken(error.to_string()))?.to_bytes();
        Ok(Response { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}
