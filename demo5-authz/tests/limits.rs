//! The gRPC roles under peers that connect and send nothing, and calls of methods that do not exist.

use std::path::Path;
use std::process::Command;

use mesh_testkit::broken_peers::assert_survives_without_descriptors;

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
