//! The backend of this demo as a role of its own, for a container.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use demo2_bpf::target;
use shared::cli::{self, RoleArgs, RoleCommand};
use shared::health;
use shared::report::line_out;

/// Answers every request with a few bytes
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  demo2-backend --listen 127.0.0.1:12002
  LISTEN=0.0.0.0:12002 demo2-backend            as a container runs it
  demo2-backend healthcheck --listen 127.0.0.1:12002"
)]
struct Args {
    /// Where to listen; port 0 takes any free port
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:12002", global = true)]
    listen: SocketAddr,
    #[command(flatten)]
    role: RoleArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.role.verbose, async |life| match args.role.command {
        Some(RoleCommand::Healthcheck) => health::run_http_healthcheck(args.listen, "/").await,
        None => {
            let listener = cli::listen(args.listen).await?;
            line_out(&format!("demo2-backend listens on {}", listener.local_addr()?));
            target::answer(listener, life);
            life.token().cancelled().await;
            Ok(())
        }
    })
    .await
}
