//! One app as a role of its own, for a terminal or a container.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use demo3_dynamic::app::App;
use shared::cli::{self, RoleArgs, RoleCommand};
use shared::{health, report};

/// An HTTP server that says its name
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  demo3-app --name blue --listen 127.0.0.1:13010
  curl -s http://127.0.0.1:13010/
  demo3-app healthcheck --listen 127.0.0.1:13010

Paths: / says the name, /slow?ms=N says it N milliseconds later."
)]
struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:0", global = true)]
    listen: SocketAddr,
    /// The name to say
    #[arg(long, env = "NAME", default_value = "app")]
    name: String,
    #[command(flatten)]
    role: RoleArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.role.verbose, async |life| match args.role.command {
        Some(RoleCommand::Healthcheck) => health::run_http_healthcheck(args.listen, "/").await,
        None => {
            let app = App::start(&args.name, cli::listen(args.listen).await?, life)?;
            report::line_out(&format!("{} listens on {}", app.name(), app.address()));
            std::future::pending().await
        }
    })
    .await
}
