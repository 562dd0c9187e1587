//! What broken peers get from a gRPC server with limits, and that others are served meanwhile.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mesh_net::{Limits, grpc_server, incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A generous limit for anything that happens at once on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The beginning of every HTTP/2 connection. Source: RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn server(limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    tokio::spawn(grpc_server(limits).add_service(health).serve_with_incoming(incoming(listener, limits)));
    address
}

async fn client(address: SocketAddr) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    HealthClient::new(endpoint.connect().await.unwrap())
}

async fn is_served(address: SocketAddr) {
    let check = async {
        client(address).await.check(HealthCheckRequest::default()).await.unwrap();
    };
    tokio::time::timeout(LIMIT, check).await.expect("a well-behaved client is served");
}

/// Reads until the server closes the connection, by an end of the stream or by a reset.
async fn is_closed(mut peer: TcpStream) {
    let reading = async {
        let mut rest = Vec::new();
        match peer.read_to_end(&mut rest).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("the server closes the connection");
}

#[tokio::test]
async fn a_connection_without_a_complete_preface_is_closed_after_the_deadline() {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let address = server(limits).await;
    for beginning in [0, 1, PREFACE.len() - 1] {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(&PREFACE[..beginning]).await.unwrap();
        is_served(address).await;
        is_closed(peer).await;
    }
}

#[tokio::test]
async fn a_connection_that_is_silent_after_the_preface_is_closed_by_keepalive() {
    let limits = Limits {
        keepalive_interval: Duration::from_millis(50),
        keepalive_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let address = server(limits).await;
    let mut peer = TcpStream::connect(address).await.unwrap();
    peer.write_all(PREFACE).await.unwrap();
    // An empty SETTINGS frame. Without it the connection has not begun.
    peer.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    is_served(address).await;
    is_closed(peer).await;
}

#[tokio::test]
async fn a_connection_that_has_begun_stays_open_beyond_the_handshake_deadline() {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let address = server(limits).await;
    let mut client = client(address).await;
    client.check(HealthCheckRequest::default()).await.unwrap();
    // A second connection reaches its deadline later than the first one would have.
    is_closed(TcpStream::connect(address).await.unwrap()).await;
    client.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_a_place_is_free() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { connections: 2, ..Limits::default() };
    let mut accepted = std::pin::pin!(incoming(listener, limits));
    let _peers = [connect(address).await, connect(address).await, connect(address).await];
    let (first, _second) = (accepted.next().await.unwrap().unwrap(), accepted.next().await.unwrap().unwrap());
    // The kernel has accepted the third peer, so that only the limit keeps it waiting.
    let third = tokio::time::timeout(Duration::from_millis(200), accepted.next()).await;
    assert!(third.is_err(), "a third connection, though two are the limit");
    drop(first);
    tokio::time::timeout(LIMIT, accepted.next()).await.expect("the place is free").unwrap().unwrap();
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn streams_beyond_the_limit_wait_until_one_ends() {
    let address = server(Limits { streams: 2, ..Limits::default() }).await;
    let client = client(address).await;
    let watch = || async {
        let mut client = client.clone();
        client.watch(HealthCheckRequest::default()).await.unwrap().into_inner()
    };
    let (first, _second) = (watch().await, watch().await);
    let mut third = std::pin::pin!(watch());
    let waits = tokio::time::timeout(Duration::from_millis(200), third.as_mut()).await;
    assert!(waits.is_err(), "a third stream, though two are the limit");
    drop(first);
    tokio::time::timeout(LIMIT, third).await.expect("the stream opens");
}
