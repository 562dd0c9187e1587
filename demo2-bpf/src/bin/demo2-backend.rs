//! The backend of this demo as a role of its own, for a container.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use demo2_bpf::target;
use shared::cli;
use shared::report::line_out;
use tokio::net::TcpStream;

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
    /// Show more logs on stderr
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Ask whether the backend at --listen takes connections: exit code 0 if it does, else 1
    Healthcheck,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.verbose, async |life| match args.command {
        Some(Command::Healthcheck) => {
            // The server was told to listen everywhere; it is asked on loopback.
            let at = SocketAddr::from(([127, 0, 0, 1], args.listen.port()));
            TcpStream::connect(at).await.with_context(|| format!("{at} does not answer"))?;
            Ok(())
        }
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
