//! A TCP connection that can be aborted from outside.
//!
//! tonic runs each connection as a task of its own that nobody can end: dropping the server leaves
//! them running. So the end comes from below: once the token is cancelled, every read and write fails.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use mesh_net::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

pub(super) struct AbortableConnection {
    tcp: Connection,
    aborted: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AbortableConnection {
    pub(super) fn new(tcp: Connection, aborted: CancellationToken) -> Self {
        Self { tcp, aborted: Box::pin(aborted.cancelled_owned()) }
    }

    /// Returns the connection unless it is aborted; wakes the reader when that happens.
    fn open_stream(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut Connection>> {
        match self.aborted.as_mut().poll(context) {
            Poll::Ready(()) => Err(ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(Pin::new(&mut self.tcp)),
        }
    }
}

impl AsyncRead for AbortableConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.open_stream(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for AbortableConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.open_stream(context)?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open_stream(context)?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open_stream(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

impl Connected for AbortableConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.tcp.connect_info()
    }
}
