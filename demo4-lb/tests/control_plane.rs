//! The control plane as a role: what it tells the real Envoy, and what it says to wrong flags.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use common::{CLIENT, CONTROL_PLANE, LIMIT, OFTEN, Role, run};
use demo4_lb::topology::LISTENER;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_xds::ResourceType;
use shared::envoy::{Bootstrap, Envoy, Serving};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::poll::wait_until;
use shared::ports::ReservedPort;
use shared::tools;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt;
use tonic::transport::Endpoint;

/// An Envoy that follows this control plane, and the address that it was told to listen on.
async fn envoy(control_plane: SocketAddr, life: &Lifecycle) -> (Serving, SocketAddr) {
    let choice = std::env::var_os("ENVOY");
    let program = tools::envoy(choice.as_deref().map(Path::new)).await.unwrap();
    let envoy = Envoy::new(&program, Bootstrap::new("role-test", control_plane).to_yaml());
    let envoy = envoy.start(life).await.unwrap().ready(Duration::from_secs(60)).await.unwrap();
    let listener = wait_until("the listener", OFTEN, LIMIT, || async {
        let listeners = envoy.admin().listeners().await.map_err(|error| error.to_string())?;
        let ours = listeners.into_iter().find(|listener| listener.name == LISTENER);
        ours.map(|listener| listener.address).ok_or_else(|| "none".to_owned())
    });
    let address = listener.await.unwrap();
    (envoy, address)
}

#[tokio::test]
async fn the_roles_together_serve_calls_through_envoy() {
    let life = Lifecycle::default();
    let backends = [Role::backend(&["--name", "a"]), Role::backend(&["--name", "b"])];
    let endpoints = format!("static:{},{}", backends[0].address, backends[1].address);
    let mut control_plane = Role::control_plane(&[
        "--listen",
        "127.0.0.1:0",
        "--envoy-listen",
        "127.0.0.1:0",
        "--endpoints",
        &endpoints,
    ]);
    let (envoy, address) = envoy(control_plane.address, &life).await;
    let output = run(CLIENT, &["--target", &format!("http://{address}"), "--count", "40", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["answered"], serde_json::json!({ "a": 20, "b": 20 }), "{answer}");
    let health = run(CONTROL_PLANE, &["healthcheck", "--listen", &control_plane.address.to_string()]);
    assert_eq!(health.status.code(), Some(0));
    // It ends in good order though Envoy still listens to it.
    control_plane.terminate();
    assert_eq!(control_plane.ended().await.code(), Some(0));
    envoy.stop().await;
    life.shut_down(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_refused_connection_to_a_backend_is_reported_with_the_next_step() {
    let life = Lifecycle::default();
    // Bound and closed again: nobody listens there.
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let endpoints = format!("static:{closed}");
    let control_plane = Role::control_plane(&[
        "--listen",
        "127.0.0.1:0",
        "--envoy-listen",
        "127.0.0.1:0",
        "--endpoints",
        &endpoints,
    ]);
    let (envoy, address) = envoy(control_plane.address, &life).await;
    let output = run(CLIENT, &["--target", &format!("http://{address}"), "--count", "3"]);
    let stderr_text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr_text}");
    for expected in ["3 of 3 calls", "Unavailable", "reached no backend", "/clusters"] {
        assert!(stderr_text.contains(expected), "no '{expected}' in: {stderr_text}");
    }
    envoy.stop().await;
    life.shut_down(GRACE).await.unwrap();
}

#[tokio::test]
async fn metrics_are_served_for_prometheus() {
    let held_port = ReservedPort::new((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = held_port.address();
    let args =
        ["--listen", "127.0.0.1:0", "--endpoints", "static:127.0.0.1:1", "--metrics", &address.to_string()];
    let control_plane = Role::control_plane(&args);
    let channel = Endpoint::from_shared(control_plane.url()).unwrap().connect().await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let type_url = ResourceType::Cluster.url().to_owned();
    let requests = tokio_stream::iter([DiscoveryRequest { type_url, ..DiscoveryRequest::default() }]);
    // It stays open until the request stream ends it, which this one never does.
    let requests = requests.chain(tokio_stream::pending());
    let mut responses = client.stream_aggregated_resources(requests).await.unwrap().into_inner();
    responses.message().await.unwrap().unwrap();

    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    connection.write_all(request).await.unwrap();
    let mut page = String::new();
    tokio::time::timeout(LIMIT, connection.read_to_string(&mut page)).await.unwrap().unwrap();
    for line in ["xds_open_streams{variant=\"sotw\"} 1", "xds_responses_total{type=\"CDS\"} 1"] {
        assert!(page.lines().any(|one| one == line), "no '{line}' in: {page}");
    }
}

#[test]
fn invalid_endpoints_are_rejected_with_the_valid_forms() {
    for wrong in [
        "",
        "backend",
        "static:nowhere",
        "static:127.0.0.1:0",
        "static:127.0.0.1:1,127.0.0.1:2,127.0.0.1:1",
        "dns:backend",
        "dns::50051",
        "dns:backend:0",
        "file:",
    ] {
        let output = run(CONTROL_PLANE, &["--endpoints", wrong]);
        let stderr_text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{wrong}: {stderr_text}");
        assert!(
            stderr_text.contains("static:IP:PORT,IP:PORT or dns:NAME:PORT or file:PATH or docker"),
            "{wrong}: {stderr_text}"
        );
    }
    assert_eq!(run(CONTROL_PLANE, &[]).status.code(), Some(2));
    // A number that no proxy should try, and a port that cannot be asked.
    let args = ["--endpoints", "static:127.0.0.1:1", "--retries", "4000000000"];
    assert_eq!(run(CONTROL_PLANE, &args).status.code(), Some(2));
    assert_eq!(run(CONTROL_PLANE, &["healthcheck", "--listen", "127.0.0.1:0"]).status.code(), Some(2));
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_exit_code_2() {
    let held_address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr();
    let holder = TcpListener::bind(held_address.unwrap()).await.unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let output = run(CONTROL_PLANE, &["--endpoints", "static:127.0.0.1:1", "--listen", &address]);
    let stderr_text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr_text}");
    assert!(stderr_text.contains(&address) && stderr_text.contains("taken"), "{stderr_text}");
}

#[test]
fn the_health_check_fails_without_a_control_plane() {
    let output = run(CONTROL_PLANE, &["healthcheck", "--listen", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("127.0.0.1:1"));
}
