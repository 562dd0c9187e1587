//! The greeter, for a terminal or a container.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use demo5_authz::backend::Backend;
use shared::cli::{self, Unready};
use shared::health::{self, Unhealthy};
use shared::report::line_out;

/// Serves the greeter by gRPC and HTTP, and says in each answer what reached it
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Where to listen; port 0 takes any free port
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:15005", global = true)]
    listen: SocketAddr,
    /// Show more logs on stderr
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Ask the backend at --listen whether it serves: exit code 0 if it does, else 1
    Healthcheck,
}

const EXAMPLES: &str = "\
Examples:
  demo5-backend --listen 127.0.0.1:15005
  demo5-backend healthcheck
  curl -s http://127.0.0.1:15005/hello
  grpcurl -plaintext -d '{\"name\": \"ana\"}' 127.0.0.1:15005 mesh.hello.v1.Greeter/Hello

It asks nobody who calls: that is for the Envoy before it, which must be the only one that can reach it.";

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.verbose, async |life| match args.command {
        Some(Command::Healthcheck) => match health::ask(args.listen).await {
            Err(wrong_use @ Unhealthy::NoPort) => Err(Unready::new(wrong_use).into()),
            answer => Ok(answer?),
        },
        None => {
            let backend = Backend::start(cli::listen(args.listen).await?, life);
            line_out(&format!("demo5-backend listens on {}", backend.address()));
            life.token().cancelled().await;
            Ok(())
        }
    })
    .await
}
