//! A caller before Envoy and an upstream behind it. Knows nothing of xDS.

use std::net::{Ipv4Addr, SocketAddr};

use shared::lifecycle::Lifecycle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::LIMIT;

/// An upstream that answers every request with its name, over HTTP/2 as `builders::cluster` wants it.
pub(crate) async fn upstream(name: &'static str, life: &Lifecycle) -> SocketAddr {
    use http_body_util::Full;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = life.token();
    life.spawn(async move {
        let answer = move |_| {
            std::future::ready(Ok::<_, hyper::Error>(hyper::Response::new(Full::<bytes::Bytes>::from(name))))
        };
        while let Some(Ok((connection, _))) = stop.run_until_cancelled(listener.accept()).await {
            let service = hyper::service::service_fn(answer);
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(connection), service);
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(serving).await });
        }
    });
    address
}

/// One HTTP/1.1 request; the status and the body.
pub(crate) async fn get(at: SocketAddr) -> Result<(u16, String), String> {
    let asking = async {
        let mut connection = TcpStream::connect(at).await?;
        connection.write_all(b"GET / HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(LIMIT, asking).await.map_err(|_| "no answer".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let status =
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| answer.clone())?;
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    Ok((status, body.to_owned()))
}
