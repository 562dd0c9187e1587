//! The control plane as a role of its own, driven with curl; for a terminal or a container.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use demo3_dynamic::admin::Admin;
use demo3_dynamic::topology::{Certificate, DesiredState};
use mesh_pki::KeyPem;
use mesh_pki::tls::Credentials;
use mesh_xds::ControlPlane;
use mesh_xds::cache::{OnRejection, Quorum};
use mesh_xds::event_log::EventFormat;
use mesh_xds_server::Folder;
use shared::cli::{self, RoleArgs, RoleCommand, SetupError};
use shared::lifecycle::Lifecycle;
use shared::{health, report, web};
use tokio::net::lookup_host;

/// Tells Envoy by xDS how to split traffic between blue and green
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  demo3-control-plane --blue 127.0.0.1:13010 --green 127.0.0.1:13011
  curl -X PUT http://127.0.0.1:13003/weights -d '{\"blue\":80,\"green\":20}'
  curl http://127.0.0.1:13003/snapshot
  curl http://127.0.0.1:13003/xds-log
  curl http://127.0.0.1:13003/clients
  curl http://127.0.0.1:13003/metrics
  curl -X POST http://127.0.0.1:13003/rollback
  demo3-control-plane --resources demo3-dynamic/resources
  demo3-control-plane healthcheck

An Envoy whose bootstrap names --listen as its ADS server needs nothing else."
)]
struct Args {
    /// Where to serve xDS
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:13002", global = true)]
    listen: SocketAddr,
    /// Where to serve the HTTP interface; it has no access control
    #[arg(long, env = "ADMIN", default_value = "127.0.0.1:13003")]
    admin: SocketAddr,
    /// Where Envoy shall listen
    #[arg(long, env = "ENVOY_LISTEN", default_value = "127.0.0.1:13000")]
    envoy_listen: SocketAddr,
    /// Where blue is, as HOST:PORT
    #[arg(long, env = "BLUE", default_value = "127.0.0.1:13010")]
    blue: String,
    /// Where green is, as HOST:PORT
    #[arg(long, env = "GREEN", default_value = "127.0.0.1:13011")]
    green: String,
    /// The certificate chain (PEM) for Envoy's listener; without it the listener speaks plain HTTP
    #[arg(long, env = "CHAIN", requires = "key")]
    chain: Option<PathBuf>,
    /// The private key (PEM) of the certificate
    #[arg(long, env = "KEY", requires = "chain")]
    key: Option<PathBuf>,
    /// Serve the resources in this folder's YAML and JSON files, and follow their changes
    #[arg(long, env = "RESOURCES", value_name = "DIR", conflicts_with_all = ["blue", "green", "chain", "envoy_listen"])]
    resources: Option<PathBuf>,
    /// A cluster that Envoys have from their bootstrap, to which the resources may refer; may be given again
    #[arg(long, value_name = "NAME", requires = "resources")]
    bootstrap_cluster: Vec<String>,
    /// Roll back to the last accepted snapshot when this many clients reject one: a number, or a percentage of the
    /// connected clients
    #[arg(
        long,
        env = "ROLL_BACK",
        value_name = "QUORUM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100%"
    )]
    roll_back: Option<Quorum>,
    /// Print what clients and control plane say to each other
    #[arg(
        long,
        env = "XDS_LOG",
        value_parser = cli::one_of::<EventFormat>(&EventFormat::NAMES),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "timeline"
    )]
    xds_log: Option<EventFormat>,
    #[command(flatten)]
    role: RoleArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.role.verbose, async |life| match args.role.command {
        Some(RoleCommand::Healthcheck) => health::run_healthcheck(args.listen).await,
        None => serve(&args, life).await,
    })
    .await
}

async fn serve(args: &Args, life: &Lifecycle) -> anyhow::Result<()> {
    // Read the first state before the ports open, so that no client connects to a control plane that cannot start.
    let (first, desired_state, folder) = match &args.resources {
        Some(path) => {
            let mut folder = Folder::new(path).external_clusters(&args.bootstrap_cluster);
            let first = folder.first().await.map_err(SetupError::new)?;
            (first, None, Some(folder))
        }
        None => {
            let desired_state = desired_state(args).await?;
            (desired_state.snapshot()?, Some(desired_state), None)
        }
    };
    let (xds, admin) =
        (cli::listen(args.listen).await?, cli::listen_with_flag(args.admin, "--admin (or ADMIN)").await?);
    let policy = args.roll_back.map_or(OnRejection::Keep, |quorum| OnRejection::RollBack { quorum });
    let control_plane = ControlPlane::start(xds, policy, &life.token())?;
    life.spawn(control_plane.ended());
    if let Some(format) = args.xds_log {
        control_plane.follow_events(format, report::line_out);
    }
    let addresses = (control_plane.address(), admin.local_addr()?);
    report::line_out(&format!(
        "demo3-control-plane serves xDS on {} and HTTP on http://{}",
        addresses.0, addresses.1
    ));
    control_plane.publish(first);
    let interface = Arc::new(Admin::new(control_plane, desired_state));
    let handler = Arc::clone(&interface);
    web::serve(admin, life, move |request| Arc::clone(&handler).handle(request));
    match folder {
        Some(folder) => folder.follow(|snapshot| interface.publish(snapshot)).await,
        None => std::future::pending().await,
    }
    Ok(())
}

/// Blue, green and a listener, as the flags say.
async fn desired_state(args: &Args) -> anyhow::Result<DesiredState> {
    let certificate = match (&args.chain, &args.key) {
        (Some(chain), Some(key)) => Some(certificate(chain, key)?),
        _ => None,
    };
    Ok(DesiredState {
        listen: Some(args.envoy_listen),
        certificate,
        apps: [resolve(&args.blue).await?, resolve(&args.green).await?],
        weights: [100, 0],
    })
}

/// The certificate and its key, checked: what Envoy would refuse is refused here, with a better reason.
fn certificate(chain: &Path, key: &Path) -> anyhow::Result<Certificate> {
    let chain_pem = read(chain)?;
    let invalid = |path: &Path| format!("{} will not do", path.display());
    let key_pem = KeyPem::parse(read(key)?).map_err(SetupError::new).with_context(|| invalid(key))?;
    Credentials::from_pem(&chain_pem, &key_pem).map_err(SetupError::new).with_context(|| invalid(chain))?;
    Ok(Certificate { chain_pem, key_pem })
}

fn read(path: &Path) -> anyhow::Result<String> {
    let read = std::fs::read_to_string(path).map_err(SetupError::new);
    read.with_context(|| format!("cannot read {}: `cargo run -p mesh-pki` makes a chain", path.display()))
}

/// The address of HOST:PORT. A name is looked up once: an app that moves needs a new start.
async fn resolve(target: &str) -> anyhow::Result<SocketAddr> {
    let mut found = lookup_host(target)
        .await
        .map_err(SetupError::new)
        .with_context(|| format!("cannot find '{target}': write HOST:PORT, and start the app first"))?;
    found.next().with_context(|| format!("'{target}' has no address"))
}
