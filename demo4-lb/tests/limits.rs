//! The gRPC roles under peers that connect and send nothing.

use mesh_testkit::broken_peers::assert_survives_without_descriptors;

#[tokio::test]
async fn a_backend_without_file_descriptors_waits_and_recovers() {
    let listen = ["--name", "b", "--listen", "127.0.0.1:0"];
    assert_survives_without_descriptors(env!("CARGO_BIN_EXE_demo4-backend"), &listen).await;
}

#[tokio::test]
async fn a_control_plane_without_file_descriptors_waits_and_recovers() {
    let arguments = ["--listen", "127.0.0.1:0", "--endpoints", "static:127.0.0.1:1"];
    assert_survives_without_descriptors(env!("CARGO_BIN_EXE_demo4-control-plane"), &arguments).await;
}
