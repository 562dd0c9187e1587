//! The control plane as a role of its own, for a terminal or a container.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use demo4_lb::discovery::Endpoints;
use demo4_lb::topology::World;
use shared::lifecycle::Lifecycle;
use shared::xds::ControlPlane;
use shared::xds::cache::OnRefusal;
use shared::xds::dialogue::Form;
use shared::{cli, health, report};

/// Tells Envoy by xDS where the echo backends are
#[derive(Parser)]
#[command(after_help = "Examples:
  demo4-control-plane --endpoints static:127.0.0.1:50051,127.0.0.1:50052
  demo4-control-plane --endpoints dns:backend:50051 --listen 0.0.0.0:14002 --envoy-listen 0.0.0.0:14000
  demo4-control-plane healthcheck

An Envoy whose bootstrap names this address as its ADS server needs nothing else.")]
struct Args {
    /// Where to serve xDS
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:14002", global = true)]
    listen: SocketAddr,
    /// Where Envoy shall listen
    #[arg(long, env = "ENVOY_LISTEN", default_value = "127.0.0.1:14000")]
    envoy_listen: SocketAddr,
    /// Where the backends are: static:IP:PORT,... or dns:NAME:PORT (looked up every second)
    #[arg(long, env = "ENDPOINTS", required = true)]
    endpoints: Option<Endpoints>,
    /// How often Envoy tries a call again that its backend did not begin
    #[arg(long, env = "RETRIES", default_value_t = 2)]
    retries: u32,
    /// Print what clients and control plane say to each other
    #[arg(long, env = "DIALOGUE", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "timeline")]
    dialogue: Option<Form>,
    /// Show logs on stderr (-v: what happens, -vv: every detail)
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
#[command(subcommand_negates_reqs = true)]
enum Command {
    /// Ask the control plane on --listen whether it serves: exit 0 if so, 1 if not
    Healthcheck,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.verbose, async |life| match (&args.command, &args.endpoints) {
        (None, Some(endpoints)) => serve(&args, endpoints.clone(), life).await,
        _ => Ok(health::ask(args.listen).await?),
    })
    .await
}

async fn serve(args: &Args, endpoints: Endpoints, life: &Lifecycle) -> anyhow::Result<()> {
    let control_plane = ControlPlane::start(cli::listen(args.listen).await?, OnRefusal::Keep, life)?;
    report::line_out(&format!("demo4-control-plane serves xDS on {}", control_plane.address()));
    if let Some(form) = args.dialogue {
        control_plane.show_dialogue(form, report::line_out);
    }
    endpoints
        .follow(|backends| {
            tracing::info!(?backends, "publishing");
            let world = World { listen: args.envoy_listen, backends, retries: args.retries };
            match world.snapshot() {
                Ok(snapshot) => drop(control_plane.publish(snapshot)),
                Err(error) => tracing::error!(%error, "not published"),
            }
        })
        .await;
    Ok(())
}
