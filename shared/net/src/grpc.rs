//! What tonic's server needs of a connection, and the limits as its settings.

use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::connection::Connection;
use crate::limits::Limits;

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.tcp().connect_info()
    }
}

/// A gRPC server with these limits on streams, and with keepalive. Serve it on [`incoming`](crate::incoming), which has the
/// limits on connections.
pub fn grpc_server(limits: Limits) -> Server {
    Server::builder()
        .max_concurrent_streams(limits.streams)
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
}
