//! The whole demo; see the crate's README.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use demo1_metrics::plan::Plan;
use demo1_metrics::scenario;
use shared::cli::{self, CommonArgs};

/// Four Envoys and three services, watched by Prometheus: what the metrics say is held against what was done
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  cargo run -p demo1-metrics
  cargo run -p demo1-metrics -- --stay              keep everything up, with Prometheus' pages
  cargo run -p demo1-metrics -- --no-prometheus     read the pages directly; what needs PromQL is not checked
  cargo run -p demo1-metrics -- --json              the report for programs
  cargo run -p demo1-metrics -- lab                 exercises that check themselves

Exit code: 0 every claim held, 1 one did not, 2 wrong usage or a missing program."
)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// The Prometheus to run; without it PATH and the tool cache are tried
    #[arg(long, env = "PROMETHEUS", value_name = "PATH", value_parser = cli::optional_path())]
    prometheus: Option<PathBuf>,
    /// Do without Prometheus, though there may be one, or one is named
    #[arg(long, conflicts_with = "pictures")]
    no_prometheus: bool,
    /// Draw the dashboard's panels of this run into this folder, as SVG
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<mesh_lab::Command>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(mesh_lab::Command::Lab(args)) = args.command {
        return mesh_lab::run(&demo1_metrics::lab::lab(), &args).await;
    }
    let plan = Plan {
        envoy: args.common.envoy.clone(),
        prometheus: args.prometheus,
        without_prometheus: args.no_prometheus,
        pictures: args.pictures,
        stay: args.common.stay,
    };
    let idea = "four Envoys and three services, and whether their metrics tell the truth";
    let tell = async |story: &mut _, life: &_| scenario::run(&plan, story, life).await;
    cli::run(&args.common, "demo1-metrics", idea, tell).await
}
