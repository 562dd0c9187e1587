//! The whole demo on one machine; see the crate's README.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use demo3_dynamic::scenario::{self, Plan};
use shared::cli::{self, CommonArgs};
use shared::envoy::EnvoyXdsVariant;

use mesh_xds::XdsVariant;
use mesh_xds::event_log::EventFormat;

/// One Envoy, made into a TLS proxy that shifts traffic, step by step, by xDS
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  cargo run -p demo3-dynamic                       tell the story and check every claim
  cargo run -p demo3-dynamic -- --protocol delta   the same over the incremental protocol
  cargo run -p demo3-dynamic -- --xds-log          show each message between Envoy and its control plane
  cargo run -p demo3-dynamic -- --stay             then drive the control plane with curl
  cargo run -p demo3-dynamic -- --json             a JSON report
  cargo run -p demo3-dynamic -- lab                exercises that check themselves

Exit code: 0 every claim held, 1 one did not, 2 wrong usage or a missing program."
)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// The variant of the xDS protocol: state of the world, or incremental
    #[arg(long, value_parser = cli::one_of::<XdsVariant>(&XdsVariant::NAMES), default_value = "sotw")]
    protocol: XdsVariant,
    /// Print on stderr what Envoy and the control plane say to each other, as a timeline or as JSON lines
    #[arg(long, value_parser = cli::one_of::<EventFormat>(&EventFormat::NAMES), num_args = 0..=1, require_equals = true, default_missing_value = "timeline")]
    xds_log: Option<EventFormat>,
    #[command(subcommand)]
    command: Option<mesh_lab::Command>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { common, protocol, xds_log, command } = Args::parse();
    if let Some(mesh_lab::Command::Lab(args)) = command {
        return mesh_lab::run(&demo3_dynamic::lab::lab(), &args).await;
    }
    let variant = match protocol {
        XdsVariant::Sotw => EnvoyXdsVariant::Sotw,
        XdsVariant::Delta => EnvoyXdsVariant::Delta,
    };
    let plan = Plan { envoy: common.envoy.clone(), variant, stay: common.stay, xds_log };
    let idea = "an Envoy that knows nothing becomes a TLS proxy that shifts traffic";
    cli::run(&common, "demo3-dynamic", idea, async |recorder, life| {
        scenario::run(&plan, recorder, life).await
    })
    .await
}
