//! One service as a role of its own, for a terminal or a container.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use demo1_metrics::service::Service;
use shared::cli::{self, RoleArgs, RoleCommand, SetupError};
use shared::lifecycle::Lifecycle;
use shared::{health, report};

/// A service that answers, calls others, counts what it does, and can be told to misbehave
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  demo1-service --name b --listen 127.0.0.1:11008
  demo1-service --name a --listen 127.0.0.1:11007 --call b=http://127.0.0.1:11008/
  curl -s http://127.0.0.1:11007/                                      what a caller sees
  curl -s http://127.0.0.1:11007/metrics                               what Prometheus sees
  curl -X PUT http://127.0.0.1:11008/fault -d '{\"delay_ms\": 300}'
  demo1-service healthcheck --listen 127.0.0.1:11008"
)]
struct Args {
    /// Which service this is
    #[arg(long, env = "NAME", default_value = "a")]
    name: String,
    /// Where to listen; port 0 takes any free port
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:0", global = true)]
    listen: SocketAddr,
    /// Whom it calls for each request, as NAME=URI; may be given several times
    #[arg(long = "call", env = "CALLS", value_name = "NAME=URI", value_delimiter = ',', value_parser = call)]
    calls: Vec<(String, String)>,
    #[command(flatten)]
    role: RoleArgs,
}

fn call(text: &str) -> Result<(String, String), String> {
    let (name, uri) = text.split_once('=').ok_or("write NAME=URI, as in b=http://127.0.0.1:11008/")?;
    Ok((name.to_owned(), uri.to_owned()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.role.verbose, async |life| match args.role.command {
        Some(RoleCommand::Healthcheck) => health::run_http_healthcheck(args.listen, "/metrics").await,
        None => serve(&args, life).await,
    })
    .await
}

async fn serve(args: &Args, life: &Lifecycle) -> anyhow::Result<()> {
    let listener = cli::listen(args.listen).await?;
    let address = listener.local_addr()?;
    let calls = args.calls.iter().map(|(name, uri)| (name.as_str(), uri.clone()));
    Service::start(&args.name, calls, listener, life).map_err(|error| SetupError::new(Wrong(error)))?;
    report::line_out(&format!("{} listens on {address}", args.name));
    std::future::pending().await
}

/// What is wrong with the flags.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct Wrong(anyhow::Error);
