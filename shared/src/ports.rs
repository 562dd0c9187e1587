//! The lab ports: what `--stay` and the compose files name, and most roles listen on by default. Everything else binds
//! port 0, unless a flag says otherwise.
//!
//! One block of ten for each demo, so that all of them can stay up side by side. The range lies below
//! the ephemeral ports of Linux (32768 and up), so that no outgoing connection takes one by chance.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// The SO_REUSEPORT experiment: the port that several servers share.
pub const REUSEPORT: u16 = 10000;

/// Demo 1: the front Envoy, where requests come in.
pub const DEMO1_FRONT: u16 = 11000;
/// Demo 1: Prometheus.
pub const DEMO1_PROMETHEUS: u16 = 11001;
/// Demo 1: Grafana.
pub const DEMO1_GRAFANA: u16 = 11002;
/// Demo 1: the admin interfaces of the four Envoys: front, a, b, c.
pub const DEMO1_ADMINS: [u16; 4] = [11003, 11004, 11005, 11006];
/// Demo 1: the services a, b, c.
pub const DEMO1_SERVICES: [u16; 3] = [11007, 11008, 11009];

/// Demo 2: Envoy's listener.
pub const DEMO2_ENVOY: u16 = 12000;
/// Demo 2: Envoy's admin interface.
pub const DEMO2_ADMIN: u16 = 12001;
/// Demo 2: the backend.
pub const DEMO2_BACKEND: u16 = 12002;

/// Demo 3: Envoy's listener.
pub const DEMO3_ENVOY: u16 = 13000;
/// Demo 3: Envoy's admin interface.
pub const DEMO3_ADMIN: u16 = 13001;
/// Demo 3: the control plane (xDS over gRPC).
pub const DEMO3_XDS: u16 = 13002;
/// Demo 3: the control plane's admin interface (HTTP).
pub const DEMO3_CONTROL: u16 = 13003;

/// Demo 4: Envoy's listener, where a client calls the echo service.
pub const DEMO4_ENVOY: u16 = 14000;
/// Demo 4: Envoy's admin interface.
pub const DEMO4_ADMIN: u16 = 14001;
/// Demo 4: the control plane (xDS over gRPC).
pub const DEMO4_XDS: u16 = 14002;

/// Demo 5: Envoy's listener, where a client calls the greeter.
pub const DEMO5_ENVOY: u16 = 15000;
/// Demo 5: Envoy's admin interface.
pub const DEMO5_ADMIN: u16 = 15001;
/// Demo 5: Envoy's listener with mutual TLS.
pub const DEMO5_TLS: u16 = 15002;
/// Demo 5: the authorizer (gRPC).
pub const DEMO5_AUTHZ: u16 = 15003;
/// Demo 5: the authorizer's metrics (HTTP).
pub const DEMO5_METRICS: u16 = 15004;
/// Demo 5: the backend (gRPC and HTTP).
pub const DEMO5_BACKEND: u16 = 15005;

/// A port that stays ours while nobody listens on it: for a server that stops and comes back.
///
/// A port that was free when it was chosen is anybody's as soon as its listener closes: another program
/// may get it as "any free port", or an outgoing connection as its own end. A bound socket that
/// does not listen prevents both, and calls are refused as if it were not there.
#[derive(Debug)]
pub struct ReservedPort {
    _socket: socket2::Socket,
    address: SocketAddr,
}

impl ReservedPort {
    /// Takes the address, before its first listener does; port 0 chooses a free one.
    ///
    /// Listeners that set SO_REUSEADDR, as tokio's do, can then be bound to [`address`](Self::address), one
    /// after the other.
    ///
    /// # Errors
    /// If somebody has it, or this machine has no such address.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self { _socket: socket, address })
    }

    /// The address, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_held_port_can_be_listened_on_again_and_again_and_refuses_between() {
        let held = ReservedPort::new((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        for _ in 0..3 {
            let refused = TcpStream::connect(held.address()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            // The standard library sets SO_REUSEADDR, as tokio does.
            let listener = TcpListener::bind(held.address()).unwrap();
            let _caller = TcpStream::connect(held.address()).unwrap();
            let _called = listener.accept().unwrap();
        }
    }

    #[test]
    fn a_held_port_is_given_to_nobody_who_asks_for_any() {
        let held = ReservedPort::new((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        // Without SO_REUSEADDR, as an outgoing connection has it.
        let stranger = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(stranger.bind(&held.address().into()).is_err());
    }
}
