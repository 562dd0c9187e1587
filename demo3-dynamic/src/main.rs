//! The whole demo on one machine; see the crate's README.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use demo3_dynamic::scenario::{self, Plan};
use shared::cli::{self, Common};
use shared::envoy::Variant;

use mesh_xds::dialogue::Form;

/// One Envoy, made into a TLS proxy that shifts traffic, step by step, by xDS
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  cargo run -p demo3-dynamic                       tell the story and check every claim
  cargo run -p demo3-dynamic -- --protocol delta   the same over the incremental protocol
  cargo run -p demo3-dynamic -- --dialogue         show each message between Envoy and its control plane
  cargo run -p demo3-dynamic -- --stay             then drive the control plane with curl
  cargo run -p demo3-dynamic -- --json             a JSON report
  cargo run -p demo3-dynamic -- lab                exercises that check themselves

Exit code: 0 every claim held, 1 one did not, 2 wrong usage or a missing program."
)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// The variant of the protocol
    #[arg(long, value_enum, default_value_t = Protocol::Sotw)]
    protocol: Protocol,
    /// Print on stderr what Envoy and the control plane say to each other, as a timeline or as JSON lines
    #[arg(long, value_parser = cli::one_of::<Form>(&Form::NAMES), num_args = 0..=1, require_equals = true, default_missing_value = "timeline")]
    dialogue: Option<Form>,
    #[command(subcommand)]
    command: Option<mesh_lab::Command>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    /// State of the world: a response carries all resources of its type
    Sotw,
    /// Incremental: a response carries what changed
    Delta,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { common, protocol, dialogue, command } = Args::parse();
    if let Some(mesh_lab::Command::Lab(args)) = command {
        return mesh_lab::run(&demo3_dynamic::lab::lab(), &args).await;
    }
    let variant = match protocol {
        Protocol::Sotw => Variant::Sotw,
        Protocol::Delta => Variant::Delta,
    };
    let plan = Plan { envoy: common.envoy.clone(), variant, stay: common.stay, dialogue };
    let idea = "an Envoy that knows nothing becomes a TLS proxy that shifts traffic";
    cli::run(&common, "demo3-dynamic", idea, async |story, life| scenario::run(&plan, story, life).await)
        .await
}
