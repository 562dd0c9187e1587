//! The listener of a server.

use std::io;
use std::net::TcpListener;

use crate::harness::{Socket, SocketOption};

/// Listens on this port of 127.0.0.1; port 0 stands for any that is free.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new()?;
    socket.set(SocketOption::ReuseAddress, true)?;
    socket.bind(port)?;
    socket.listen(128)
}
