//! The listener of a server.

use std::io;
use std::net::TcpListener;

use crate::harness::{Socket, SocketOption};

/// Listens on this port of 127.0.0.1; port 0 stands for any that is free.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new()?;
    // Taken? Then another one.
    socket.bind(port).or_else(|_| socket.bind(0))?;
    socket.listen(128)
}
