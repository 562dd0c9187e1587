//! Your gRPC service behind an Envoy that this library configures.
//!
//! ```text
//! client ──> Envoy 127.0.0.1:10000 ──> two instances of the service, on ports that the system chooses
//!              └── ADS ──> control plane 127.0.0.1:18000 (this process)
//! ```
//!
//! ```sh
//! cargo run --example your_service > envoy.yaml     # stays in the foreground
//! envoy -c envoy.yaml                               # in a second terminal
//! grpcurl -plaintext 127.0.0.1:10000 grpc.health.v1.Health/Check
//! ```
//!
//! The addresses of the control plane and of Envoy may be given as arguments. Press Enter to remove the second
//! instance from the endpoints and to add it again: clients notice nothing. To use it for your service, replace [`instance`].

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_xds::builders::{self, LocalityEndpoints};
use mesh_xds::cache::OnRejection;
use mesh_xds::{ControlPlane, Resource, Snapshot};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stderr, stdin, stdout};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

/// Where the control plane serves xDS by default. The printed bootstrap has the same address.
const CONTROL_PLANE: &str = "127.0.0.1:18000";

/// Where Envoy listens for clients by default.
const ENVOY: &str = "127.0.0.1:10000";

/// The name of the cluster, the route configuration and the listener.
const SERVICE: &str = "service";

/// How long Envoy may take to accept a snapshot. It needs milliseconds, once it is connected.
const ACCEPT_LIMIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let socket = TcpListener::bind(args.next().as_deref().unwrap_or(CONTROL_PLANE)).await?;
    let envoy = args.next().as_deref().unwrap_or(ENVOY).parse()?;
    let stop = CancellationToken::new();
    let instances = [instance(&stop).await?, instance(&stop).await?];

    // On a rejection Envoy keeps what it has, and the control plane keeps the snapshot.
    let control_plane = ControlPlane::start(socket, OnRejection::default(), &stop)?;
    stdout().write_all(bootstrap(control_plane.address()).as_bytes()).await?;

    let run = async {
        let mut lines = BufReader::new(stdin()).lines();
        for count in [2, 1].into_iter().cycle() {
            publish(&control_plane, envoy, &instances[..count]).await?;
            if lines.next_line().await?.is_none() {
                // Not a terminal: serve until the process is stopped.
                std::future::pending::<()>().await;
            }
        }
        Ok::<(), Box<dyn Error>>(())
    };
    tokio::select! {
        ended = run => ended?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    stop.cancel();
    control_plane.stop().await?;
    Ok(())
}

/// Starts an instance of the service and returns its address. It ends when `stop` is cancelled.
///
/// The gRPC health service stands for yours. Add your generated server with `.add_service(...)`.
async fn instance(stop: &CancellationToken) -> std::io::Result<SocketAddr> {
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let address = socket.local_addr()?;
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder()
        .add_service(health)
        .serve_with_incoming_shutdown(TcpListenerStream::new(socket), stop.clone().cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = server.await {
            log(&format!("the instance on {address} failed: {error}")).await;
        }
    });
    Ok(address)
}

/// Publishes these instances as the cluster's endpoints, and waits until Envoy has accepted them.
async fn publish(
    control_plane: &ControlPlane,
    envoy: SocketAddr,
    instances: &[SocketAddr],
) -> Result<(), Box<dyn Error>> {
    let local = LocalityEndpoints {
        region: "local".to_owned(),
        weight: 1,
        priority: 0,
        addresses: instances.to_vec(),
    };
    // A snapshot is consistent, or an error that names what is missing: a route to a cluster that does not exist
    // never reaches Envoy.
    let snapshot = Snapshot::new([
        Resource::new(&builders::cluster(SERVICE))?,
        Resource::new(&builders::endpoints(SERVICE, &[local]))?,
        Resource::new(&builders::listener(SERVICE, envoy, SERVICE))?,
        Resource::new(&builders::route(SERVICE, SERVICE))?,
    ])?;
    let snapshot = control_plane.publish(snapshot);
    let outcome = match control_plane.accepted(&snapshot, ACCEPT_LIMIT).await {
        Ok(()) => format!("Envoy accepted {} instances; press Enter to change that", instances.len()),
        Err(error) => format!("{error}; is Envoy running with the bootstrap printed above?"),
    };
    log(&outcome).await;
    Ok(())
}

/// What Envoy has to know at its start: its own node id, and where the control plane is. It gets the rest by xDS.
fn bootstrap(control_plane: SocketAddr) -> String {
    let (ip, port) = (control_plane.ip(), control_plane.port());
    format!(
        r#"node: {{ id: envoy-1, cluster: demo }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{{ envoy_grpc: {{ cluster_name: xds }} }}]
  cds_config: {{ ads: {{}}, resource_api_version: V3 }}
  lds_config: {{ ads: {{}}, resource_api_version: V3 }}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: xds
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}
"#
    )
}

/// Writes a line for people; stdout is for the bootstrap.
async fn log(line: &str) {
    // A closed stderr is not an error of the service.
    _ = stderr().write_all(format!("{line}\n").as_bytes()).await;
}
