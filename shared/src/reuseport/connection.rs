//! A connection to whoever has the port, and the question who that is.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::GREETING;

/// How long an answer may take, the time in a queue included.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of an answer is read, in bytes.
const MAX_BODY: usize = 1024;

/// A connection that is kept, as gRPC clients and connection pools do.
#[derive(Debug)]
pub struct Connection {
    requests: SendRequest<Empty<Bytes>>,
    host: String,
}

impl Connection {
    /// Opens one. It may have to wait in a server's queue: that it is open says nothing about who has it.
    ///
    /// # Errors
    /// What the system says.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the sender.
        tokio::spawn(connection);
        Ok(Self { requests, host: address.to_string() })
    }

    /// Asks who answers, and returns that instance's name.
    ///
    /// # Errors
    /// If the connection broke, or nothing that makes sense came in half a minute.
    pub async fn request_instance(&mut self) -> io::Result<String> {
        let request = Request::get("/").header(HOST, &self.host).body(Empty::new());
        let request = request.map_err(io::Error::other)?;
        let exchange = async {
            self.requests.ready().await.map_err(io::Error::other)?;
            let response = self.requests.send_request(request).await.map_err(io::Error::other)?;
            let body =
                Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(io::Error::other)?;
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            let instance = body.trim_end().strip_prefix(GREETING);
            instance.map(str::to_owned).ok_or_else(|| io::Error::other(format!("answered {body:?}")))
        };
        tokio::time::timeout(RESPONSE_TIMEOUT, exchange).await?
    }
}

/// Asks on a connection of its own.
///
/// # Errors
/// As [`Connection::request_instance`], or if there is no connection.
pub async fn request_instance(address: SocketAddr) -> io::Result<String> {
    Connection::open(address).await?.request_instance().await
}
