//! The greeter, for a terminal or a container.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use demo5_authz::backend::Backend;
use shared::cli::{self, RoleArgs, RoleCommand};
use shared::health;
use shared::report::line_out;

/// Serves the greeter by gRPC and HTTP, and says in each answer what reached it
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Where to listen; port 0 takes any free port
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:15005", global = true)]
    listen: SocketAddr,
    #[command(flatten)]
    role: RoleArgs,
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
    cli::run_role(args.role.verbose, async |life| match args.role.command {
        Some(RoleCommand::Healthcheck) => health::run_healthcheck(args.listen).await,
        None => {
            let backend = Backend::start(cli::listen(args.listen).await?, life);
            line_out(&format!("demo5-backend listens on {}", backend.address()));
            life.token().cancelled().await;
            Ok(())
        }
    })
    .await
}
