//! The accept loop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::connection::Connection;
use crate::limits::Limits;

/// How long to wait after the kernel failed to accept a connection. Usually the process is out of file descriptors;
/// retrying immediately would use a whole core until there is one.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts the connections of `listener`, one after the other and no more at once than `limits` allow.
///
/// A failed `accept` is logged and retried after a pause, so that the stream has no errors. It never ends.
pub fn incoming(listener: TcpListener, limits: Limits) -> impl Stream<Item = io::Result<Connection>> + Send {
    if let Err(error) = socket2::SockRef::from(&listener).listen(limits.backlog) {
        tracing::debug!(%error, "cannot change the listener's backlog");
    }
    let places = Arc::new(Semaphore::new(limits.connections));
    futures::stream::unfold(listener, move |listener| {
        let places = Arc::clone(&places);
        async move {
            let place = places.acquire_owned().await.expect("the semaphore is never closed");
            let tcp = accept(&listener).await;
            Some((Ok(Connection::new(tcp, limits, place)), listener))
        }
    })
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                // A small message must not wait for the ACK of the previous one.
                if let Err(error) = tcp.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY on a connection");
                }
                return tcp;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
