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

/// A listener that never has more connections open than its limits allow.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    limits: Limits,
    places: Arc<Semaphore>,
}

impl Acceptor {
    /// Applies the limits to `listener`.
    pub fn new(listener: TcpListener, limits: Limits) -> Self {
        if let Err(error) = socket2::SockRef::from(&listener).listen(limits.backlog) {
            tracing::debug!(%error, "cannot change the listener's backlog");
        }
        Self { listener, limits, places: Arc::new(Semaphore::new(limits.connections)) }
    }

    /// Waits for a place and for the next connection. A failed `accept` is logged and retried after a pause.
    pub async fn accept(&self) -> Connection {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        Connection::new(self.accept_tcp().await, self.limits, place)
    }

    async fn accept_tcp(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
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
}

/// The connections of `listener` as a stream without errors and without an end, for tonic's server.
pub fn incoming(listener: TcpListener, limits: Limits) -> impl Stream<Item = io::Result<Connection>> + Send {
    futures::stream::unfold(Acceptor::new(listener, limits), |acceptor| async {
        let connection = acceptor.accept().await;
        Some((Ok(connection), acceptor))
    })
}
