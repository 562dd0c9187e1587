//! The smallest control plane: an Envoy listener on port 10000 that routes to a gRPC backend on port 50051.
//!
//! `cargo run --example minimal`; `your_service` beside it is complete, and prints the bootstrap that Envoy needs.

use mesh_xds::builders::{self, LocalityEndpoints};
use mesh_xds::cache::OnRejection;
use mesh_xds::{ControlPlane, Resource, Snapshot};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let backend = "127.0.0.1:50051".parse()?;
    let local =
        LocalityEndpoints { region: "local".into(), weight: 1, priority: 0, addresses: vec![backend] };
    // A snapshot is consistent, or an error that names the missing resource.
    let snapshot = Snapshot::new([
        Resource::new(&builders::cluster("echo"))?,
        Resource::new(&builders::endpoints("echo", &[local]))?,
        Resource::new(&builders::listener("echo", "127.0.0.1:10000".parse()?, "echo"))?,
        Resource::new(&builders::route("echo", "echo"))?,
    ])?;
    let socket = TcpListener::bind("127.0.0.1:18000").await?;
    let control_plane = ControlPlane::start(socket, OnRejection::default(), &CancellationToken::new())?;
    control_plane.publish(snapshot);
    tokio::signal::ctrl_c().await?;
    control_plane.stop().await?;
    Ok(())
}
