//! The control plane as a role of its own, for a terminal or a container.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use demo4_lb::discovery::{EndpointSource, KnownRegions};
use demo4_lb::topology::{DataPlane, DesiredState, Split};
use mesh_xds::ControlPlane;
use mesh_xds::cache::Cache;
use mesh_xds::event_log::EventFormat;
use mesh_xds::metrics;
use shared::cli::{self, RoleArgs};
use shared::lifecycle::Lifecycle;
use shared::{health, report, web};

/// Tells Envoy by xDS where the echo backends are
#[derive(Parser)]
#[command(
    version,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  demo4-control-plane --endpoints static:127.0.0.1:50051,127.0.0.1:50052
  demo4-control-plane --endpoints dns:backend:50051 --listen 0.0.0.0:14002 --envoy-listen 0.0.0.0:14000
  demo4-control-plane --endpoints file:backends.yaml --split routes
  demo4-control-plane --endpoints docker --xds-log --metrics 127.0.0.1:14003
  demo4-control-plane healthcheck

An Envoy whose bootstrap names this address as its ADS server needs nothing else; a gRPC client calls xds:///echo."
)]
struct Args {
    /// Where to serve xDS
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:14002", global = true)]
    listen: SocketAddr,
    /// Where Envoy shall listen
    #[arg(long, env = "ENVOY_LISTEN", default_value = "127.0.0.1:14000")]
    envoy_listen: SocketAddr,
    /// Where the backends are: static:IP:PORT,... or dns:NAME:PORT (looked up twice a second), or
    /// file:PATH (YAML, watched), or docker or docker:SERVICE (containers with the label mesh.service=SERVICE, "echo"
    /// unless said)
    #[arg(long, env = "ENDPOINTS", required = true)]
    endpoints: Option<EndpointSource>,
    /// Who splits calls over regions: the client by locality weights, or the route by clusters' weights
    #[arg(long, env = "SPLIT", value_enum, default_value = "localities")]
    split: Split,
    /// How often Envoy tries a call again that its backend did not begin
    #[arg(long, env = "RETRIES", default_value_t = 2, value_parser = clap::value_parser!(u32).range(..=10))]
    retries: u32,
    /// Serve what the control plane counts as /metrics on this address, for Prometheus
    #[arg(long, env = "METRICS", value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Print what clients and control plane say to each other
    #[arg(long, env = "XDS_LOG", value_parser = cli::one_of::<EventFormat>(&EventFormat::NAMES), num_args = 0..=1, require_equals = true, default_missing_value = "timeline")]
    xds_log: Option<EventFormat>,
    #[command(flatten)]
    role: RoleArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.role.verbose, async |life| match (args.role.command, &args.endpoints) {
        (None, Some(endpoints)) => serve(&args, endpoints.clone(), life).await,
        _ => health::run_healthcheck(args.listen).await,
    })
    .await
}

async fn serve(args: &Args, endpoints: EndpointSource, life: &Lifecycle) -> anyhow::Result<()> {
    let cache = Cache::grouped(|node| DataPlane::of(node).name().to_owned());
    let control_plane = ControlPlane::serve(cli::listen(args.listen).await?, cache, None, &life.token())?;
    life.spawn(control_plane.ended());
    report::line_out(&format!("demo4-control-plane serves xDS on {}", control_plane.address()));
    if let Some(address) = args.metrics {
        let listener = cli::listen_with_flag(address, "--metrics (or METRICS)").await?;
        report::line_out(&format!("its metrics are on http://{}/metrics", listener.local_addr()?));
        let registry = control_plane.registry().clone();
        web::serve_metrics(listener, life, move || metrics::text(&registry));
    }
    if let Some(format) = args.xds_log {
        control_plane.follow_events(format, report::line_out);
    }
    let mut known_regions = KnownRegions::default();
    endpoints
        .watch(|found| {
            tracing::info!(backends = found.len(), "publishing");
            let regions = known_regions.update(&found);
            let state = DesiredState {
                split: args.split,
                retries: args.retries,
                ..DesiredState::from_regions(args.envoy_listen, regions)
            };
            for plane in DataPlane::ALL {
                match state.snapshot(plane) {
                    Ok(snapshot) => drop(control_plane.publish_to(plane.name(), snapshot)),
                    Err(error) => tracing::error!(%error, "not published"),
                }
            }
        })
        .await?;
    Ok(())
}
