//! One app as a role of its own, for a terminal or a container.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use demo3_dynamic::app::App;
use shared::{cli, report};
use tokio::net::TcpStream;

/// An HTTP server that says its name
#[derive(Parser)]
#[command(after_help = "Examples:
  demo3-app --name blue --listen 127.0.0.1:13010
  curl -s http://127.0.0.1:13010/
  demo3-app healthcheck --listen 127.0.0.1:13010

Paths: / says the name, /slow?ms=N says it N milliseconds later.")]
struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:0", global = true)]
    listen: SocketAddr,
    /// The name to say
    #[arg(long, env = "NAME", default_value = "app")]
    name: String,
    /// Show logs on stderr (-v: what happens, -vv: every detail)
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Connect to the app on --listen: exit 0 if it is there, 1 if not
    Healthcheck,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.verbose, async |life| {
        if args.command.is_some() {
            let at = SocketAddr::from(([127, 0, 0, 1], args.listen.port()));
            TcpStream::connect(at).await.map_err(|error| anyhow::anyhow!("{at} does not answer: {error}"))?;
            return Ok(());
        }
        let app = App::start(&args.name, cli::listen(args.listen).await?, life)?;
        report::line_out(&format!("{} listens on {}", app.name(), app.address()));
        std::future::pending().await
    })
    .await
}
