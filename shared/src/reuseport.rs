//! One port for several servers: `SO_REUSEPORT`, a server that says who answered, and a client that asks.
//!
//! ```text
//!                       ┌─ hash of addresses and ports ─> listener of foo ─ queue ─ accept() ─> foo
//!   new connection ─────┤
//!                       └──────────────────────────────> listener of bar ─ queue ─ accept() ─> bar
//! ```
//!
//! Each listener is a socket of its own with a queue of its own; the kernel picks one when a connection's first
//! packet arrives, and the connection is that one's from then on. All of them have to set the option, the
//! first one too, and to run as one user: else anybody could take a part of somebody's connections.
//!
//! Knows one port and who answers there. Does not know processes: `src/bin/reuseport/` starts them, kills
//! them and counts.

mod connection;

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::Full;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use crate::lifecycle::Lifecycle;
use crate::web;

pub use connection::{Connection, request_instance};

/// Whether this system spreads connections over the listeners of a port.
///
/// Linux does since 3.9; FreeBSD has an option of another name for it. On macOS and the other BSDs
/// `SO_REUSEPORT` lets several listeners have the port, and the last one to come gets every connection.
pub const BALANCES_CONNECTIONS: bool =
    cfg!(any(target_os = "linux", target_os = "android", target_os = "freebsd"));

/// How many connections may wait in a listener's queue; the kernel has a limit too (`net.core.somaxconn`).
const BACKLOG: i32 = 1024;

/// Whether a listener lets others have its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// With `SO_REUSEPORT`: with others of the same user that set it too.
    Shared,
    /// Without.
    Exclusive,
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// `EADDRINUSE`.
    #[error(
        "{address} is taken (EADDRINUSE): sharing it takes SO_REUSEPORT in every process, the first one too, \
         and one user for all; or choose another port with --port (or PORT)"
    )]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The machine has no such address, or this user may not use it.
    #[error("cannot listen on {address} ({why}): choose another address with --host and --port")]
    CannotBind {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        why: io::Error,
    },
}

/// Binds a listener, alone or to share.
///
/// # Errors
/// [`ListenError`].
///
/// # Panics
/// Outside of a tokio runtime.
pub fn listen(address: SocketAddr, sharing: Sharing) -> Result<TcpListener, ListenError> {
    bind(address, sharing).map_err(|why| match why.kind() {
        io::ErrorKind::AddrInUse => ListenError::AddressInUse { address },
        _ => ListenError::CannotBind { address, why },
    })
}

fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Another matter, in spite of its name: a restarted server need not wait for old connections to time out.
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Shared {
        #[cfg(target_os = "freebsd")]
        socket.set_reuse_port_lb(true)?;
        #[cfg(not(target_os = "freebsd"))]
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What every response begins with.
const GREETING: &str = "Hello from ";

/// Answers `Hello from INSTANCE` to every request, until `life` ends.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use shared::lifecycle::{GRACE, Lifecycle};
/// use shared::reuseport::{Sharing, listen, request_instance, serve};
///
/// let life = Lifecycle::default();
/// let foo = listen("127.0.0.1:0".parse()?, Sharing::Shared)?;
/// let address = foo.local_addr()?;
/// let bar = listen(address, Sharing::Shared)?;
/// serve(foo, "foo", &life);
/// serve(bar, "bar", &life);
/// assert!(["foo", "bar"].contains(&request_instance(address).await?.as_str()));
///
/// // Who does not set the option is kept out, and would keep others out.
/// assert!(listen(address, Sharing::Exclusive).is_err());
/// life.shut_down(GRACE).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn serve(listener: TcpListener, instance: &str, life: &Lifecycle) {
    let body = Bytes::from(format!("{GREETING}{instance}\n"));
    web::serve(listener, life, move |_| {
        let mut response = Response::new(Full::new(body.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        std::future::ready(response)
    });
}
