//! Work whose numbers are known: 23 connections of 4 requests each, and some that end badly.
//!
//! Plain sockets and a request of fixed bytes, so that the client can say to the byte what it sent.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::facts::Sent;

/// Connections: a number that nothing else here has by chance.
pub const CONNECTIONS: u64 = 23;

/// Requests on each.
pub const REQUESTS: u64 = 4;

/// How long one connection's work may take.
const LIMIT: Duration = Duration::from_secs(20);

const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nhost: demo2\r\n\r\n";

/// Asks our backend to wait before it answers; another one may not know of it.
const SLOW: &[u8] = b"GET /hello?slow HTTP/1.1\r\nhost: demo2\r\n\r\n";

/// How long our backend waits then: much longer than Envoy, and more than the millisecond that Envoy times by.
pub const WAIT: Duration = Duration::from_millis(5);

/// The largest answer's head that is read, in bytes.
const HEAD: usize = 16 * 1024;

/// Does the work, one connection after the other, and then tears down `resets` more.
///
/// # Errors
/// If the listener does not answer as HTTP does, or not in time.
pub async fn run(listener: SocketAddr, resets: u64) -> io::Result<Sent> {
    let mut sent = Sent::default();
    for _ in 0..CONNECTIONS {
        tokio::time::timeout(LIMIT, connection(listener, REQUEST, REQUESTS, &mut sent)).await??;
    }
    for _ in 0..resets {
        tokio::time::timeout(LIMIT, reset(listener)).await??;
        sent.resets += 1;
    }
    Ok(sent)
}

/// The same work with a slow backend, and without resets.
///
/// # Errors
/// As [`run`].
pub async fn run_slowly(listener: SocketAddr) -> io::Result<Sent> {
    let mut sent = Sent::default();
    for _ in 0..CONNECTIONS {
        tokio::time::timeout(LIMIT, connection(listener, SLOW, REQUESTS, &mut sent)).await??;
    }
    Ok(sent)
}

/// Sends one request, on a connection of its own.
///
/// # Errors
/// As [`run`].
pub async fn once(listener: SocketAddr) -> io::Result<()> {
    tokio::time::timeout(LIMIT, connection(listener, REQUEST, 1, &mut Sent::default())).await?
}

/// Sends requests one after the other on one connection until the time is over, and returns how many were answered.
///
/// # Errors
/// As [`run`].
pub async fn send_until(listener: SocketAddr, until: Instant) -> io::Result<u64> {
    let mut stream = TcpStream::connect(listener).await?;
    stream.set_nodelay(true)?;
    let mut answered = 0;
    while Instant::now() < until {
        stream.write_all(REQUEST).await?;
        tokio::time::timeout(LIMIT, answer(&mut stream)).await??;
        answered += 1;
    }
    Ok(answered)
}

async fn connection(listener: SocketAddr, request: &[u8], requests: u64, sent: &mut Sent) -> io::Result<()> {
    let mut stream = TcpStream::connect(listener).await?;
    stream.set_nodelay(true)?;
    for _ in 0..requests {
        let begun = Instant::now();
        stream.write_all(request).await?;
        sent.bytes_out += request.len() as u64;
        sent.bytes_in += answer(&mut stream).await?;
        sent.micros += u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        sent.requests += 1;
    }
    stream.shutdown().await?;
    // Until the other side has closed too, the connection is not over.
    let mut rest = Vec::new();
    stream.take(HEAD as u64).read_to_end(&mut rest).await?;
    sent.connections += 1;
    Ok(())
}

/// Reads one answer and returns its bytes.
async fn answer(stream: &mut TcpStream) -> io::Result<u64> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() > HEAD || stream.read_buf(&mut head).await? == 0 {
            return Err(invalid_http("it ends before its head does"));
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    if !text.starts_with("http/1.1 200") {
        return Err(invalid_http(text.lines().next().unwrap_or_default()));
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length
        .and_then(|length| length.trim().parse().ok())
        .ok_or_else(|| invalid_http("no content-length"))?;
    let mut left = length.saturating_sub(head.len() - end);
    let mut rest = [0; 4096];
    while left > 0 {
        let most = left.min(rest.len());
        let read = stream.read(&mut rest[..most]).await?;
        if read == 0 {
            return Err(invalid_http("it ends before its body does"));
        }
        left -= read;
    }
    Ok((end + length) as u64)
}

fn invalid_http(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is not as expected: {what}"))
}

/// Begins a request and aborts: with nothing to linger for, closing sends a reset.
async fn reset(listener: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(listener).await?;
    stream.write_all(&REQUEST[..10]).await?;
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}
