//! The gRPC roles under peers that connect and send nothing, and calls of services that do not exist.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use demo5_authz::backend::Backend;
use mesh_testkit::broken_peers::assert_survives_without_descriptors;
use shared::lifecycle::{GRACE, Lifecycle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_backend_without_file_descriptors_waits_and_recovers() {
    let listen = ["--listen", "127.0.0.1:0"];
    assert_survives_without_descriptors(env!("CARGO_BIN_EXE_demo5-backend"), &listen).await;
}

#[tokio::test]
async fn an_authorizer_without_file_descriptors_waits_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let keygen =
        Command::new(env!("CARGO_BIN_EXE_demo5-token")).args(["keygen", "--out"]).arg(folder.path()).output();
    assert!(keygen.unwrap().status.success());
    let jwks = folder.path().join("public/jwks.json").display().to_string();
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").display().to_string();
    let arguments =
        ["--listen", "127.0.0.1:0", "--jwks", &jwks, "--policies", &policies, "--decision-log", "none"];
    assert_survives_without_descriptors(env!("CARGO_BIN_EXE_demo5-authz-server"), &arguments).await;
}

#[tokio::test]
async fn a_grpc_call_of_an_unknown_service_gets_a_grpc_status_and_other_requests_404() {
    let life = Lifecycle::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let backend = Backend::start(listener, &life);
    for (media, expected) in [("application/grpc", "grpc-status: 12"), ("text/plain", "HTTP/1.1 404")] {
        let mut peer = TcpStream::connect(backend.address()).await.unwrap();
        let head = format!("POST /no.such.Service/Call HTTP/1.1\r\nhost: x\r\ncontent-type: {media}\r\n");
        peer.write_all(format!("{head}content-length: 0\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut response = String::new();
        peer.read_to_string(&mut response).await.unwrap();
        assert!(response.contains(expected), "{media}: {response}");
    }
    life.shut_down(GRACE).await.unwrap();
}
