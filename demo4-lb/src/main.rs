//! The whole demo on one machine; see the crate's README.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use demo4_lb::plan::{Plan, Planes, Step};
use demo4_lb::scenario;
use shared::cli::{self, CommonArgs};

use mesh_xds::event_log::EventFormat;

/// gRPC load balancing by xDS, measured on a real Envoy
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  cargo run -p demo4-lb                         tell the story and check every claim
  cargo run -p demo4-lb -- --json               the same as a JSON report
  cargo run -p demo4-lb -- --stay               keep everything up to play with
  cargo run -p demo4-lb -- --step localities    one part of it
  cargo run -p demo4-lb -- --data-plane envoy   without the proxyless client
  cargo run -p demo4-lb -- --xds-log            show each message between Envoy and its control plane
  cargo run -p demo4-lb -- --envoy /opt/envoy   with an Envoy of your own
  cargo run -p demo4-lb -- lab                  exercises that check themselves

Exit code: 0 every claim held, 1 one did not, 2 wrong usage or a missing program."
)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Who picks a backend for each call
    #[arg(long, value_enum, default_value_t)]
    data_plane: Planes,
    /// Run this step only
    #[arg(long, value_enum, value_name = "NAME")]
    step: Option<Step>,
    /// Print on stderr what Envoy and the control plane say to each other, as a timeline or as JSON lines
    #[arg(long, value_parser = cli::one_of::<EventFormat>(&EventFormat::NAMES), num_args = 0..=1, require_equals = true, default_missing_value = "timeline")]
    xds_log: Option<EventFormat>,
    #[command(subcommand)]
    command: Option<mesh_lab::Command>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { common, data_plane: planes, step, xds_log, command } = Args::parse();
    if let Some(mesh_lab::Command::Lab(args)) = command {
        return mesh_lab::run(&demo4_lb::lab::lab(), &args).await;
    }
    let (envoy, stay) = (common.envoy.clone(), common.stay);
    let plan = Plan { envoy, stay, xds_log, planes, step, ..Plan::default() };
    let idea = "a control plane decides where calls go; an Envoy, or the client itself, carries it out";
    cli::run(&common, "demo4-lb", idea, async |recorder, life| scenario::run(&plan, recorder, life).await)
        .await
}
