//! The whole demo on one machine; see the crate's README.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use demo5_authz::plan::{Plan, Step};
use demo5_authz::scenario;
use shared::cli::{self, CommonArgs};

/// External authorization of gRPC and HTTP calls, measured on a real Envoy
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  cargo run -p demo5-authz                      tell the story and check every claim
  cargo run -p demo5-authz -- --json            the same as a JSON report
  cargo run -p demo5-authz -- --stay            keep everything up to play with
  cargo run -p demo5-authz -- --step failures   one part of it
  cargo run -p demo5-authz -- -v                with the authorizer's logs
  cargo run -p demo5-authz -- --envoy /opt/envoy   with an Envoy of your own
  cargo run -p demo5-authz -- lab               exercises that check themselves

Exit code: 0 every claim held, 1 one did not, 2 wrong usage or a missing program."
)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Run this step only
    #[arg(long, value_enum, value_name = "NAME")]
    step: Option<Step>,
    #[command(subcommand)]
    command: Option<mesh_lab::Command>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { common, step, command } = Args::parse();
    if let Some(mesh_lab::Command::Lab(args)) = command {
        return mesh_lab::run(&demo5_authz::lab::lab(), &args).await;
    }
    let plan = Plan { envoy: common.envoy.clone(), stay: common.stay, step };
    let idea = "Envoy asks an authorizer about each call, and carries out what it says";
    cli::run(&common, "demo5-authz", idea, async |recorder, life| scenario::run(&plan, recorder, life).await)
        .await
}
