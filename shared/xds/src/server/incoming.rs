//! The connections of a listener, ready for small updates.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// How many connections may wait to be accepted. The usual 128 overflow when a fleet reconnects after
/// a restart, and a client whose connection is dropped retries only a second later.
const BACKLOG: i32 = 4096;

/// How long to wait after the kernel failed to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts the connections of `listener`.
pub(super) fn incoming(listener: TcpListener) -> impl futures::Stream<Item = std::io::Result<TcpStream>> {
    if let Err(error) = socket2::SockRef::from(&listener).listen(BACKLOG) {
        tracing::debug!(%error, "cannot enlarge the listener's backlog");
    }
    futures::stream::unfold(listener, |listener| async {
        let connection = listener.accept().await.map(|(connection, _)| connection);
        match &connection {
            // An update must not wait for the ACK of the previous one.
            Ok(connection) => {
                if let Err(error) = connection.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY on a connection");
                }
            }
            // Usually the process is out of file descriptors. tonic retries immediately, and would use a whole
            // core until there is one.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        Some((connection, listener))
    })
}
