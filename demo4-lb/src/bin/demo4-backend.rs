//! One echo backend, for a terminal or a container.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use demo4_lb::backend::Backend;
use shared::cli::{self, RoleArgs, RoleCommand};
use shared::health;
use shared::lifecycle::Lifecycle;
use shared::report::line_out;

/// Serves the echo service, and says in each reply who answered
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Where to listen; port 0 takes any free port
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:0", global = true)]
    listen: SocketAddr,
    /// The name in every reply; the host's name by default, which in a container is the container's id
    #[arg(long, env = "NAME")]
    name: Option<String>,
    /// Where it runs (a region or zone), told in every reply
    #[arg(long, env = "LOCALITY", default_value = "")]
    locality: String,
    /// Milliseconds for which it still accepts calls after SIGTERM, so that load balancers stop sending calls first
    #[arg(long, env = "SHUTDOWN_DELAY", value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=3000))]
    shutdown_delay: u16,
    #[command(flatten)]
    role: RoleArgs,
}

const EXAMPLES: &str = "\
Examples:
  demo4-backend --listen 127.0.0.1:50051 --name east-1 --locality east
  LISTEN=0.0.0.0:50051 demo4-backend               as a container runs it
  demo4-backend healthcheck --listen 127.0.0.1:50051
  grpcurl -plaintext -d '{\"text\": \"hi\"}' 127.0.0.1:50051 mesh.echo.v1.Echo/Say

SIGTERM or Ctrl-C drains it: no new calls, the open ones end, exit code 0.";

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
    let name = match &args.name {
        Some(name) => name.clone(),
        None => rustix::system::uname()
            .nodename()
            .to_str()
            .context("the host's name is not text: give one with --name")?
            .to_owned(),
    };
    let listener = cli::listen(args.listen).await?;
    let shutdown_delay = Duration::from_millis(args.shutdown_delay.into());
    let backend = Backend::start_with_shutdown_delay(shutdown_delay, &name, &args.locality, listener, life);
    line_out(&format!("{name} listens on {}", backend.address()));
    // Runs until a signal ends the role; the backend then drains with its lifecycle.
    life.token().cancelled().await;
    Ok(())
}
