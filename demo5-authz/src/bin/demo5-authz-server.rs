//! The authorizer, for a terminal or a container.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args as ClapArgs, Parser};
use demo5_authz::authorizer::{Authorizer, TRUST_DOMAIN};
use demo5_authz::decision_log::DecisionLog;
use demo5_authz::metrics::Metrics;
use demo5_authz::reload::{self, ReloadError};
use demo5_authz::server::{self, RunningServer};
use demo5_authz::token::ValidationParams;
use shared::cli::{self, RoleArgs, RoleCommand, SetupError};
use shared::health;
use shared::lifecycle::Lifecycle;
use shared::report::{line_err, line_out};

/// Decides about each request that Envoy asks about (ext_authz over gRPC)
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Where to listen; port 0 takes any free port
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:15003", global = true)]
    listen: SocketAddr,
    #[command(flatten)]
    serve: Serve,
    #[command(flatten)]
    role: RoleArgs,
}

#[derive(ClapArgs)]
struct Serve {
    /// The public keys that sign tokens (JWKS), read again when they change
    #[arg(long, env = "JWKS", value_name = "FILE", default_value = "keys/public/jwks.json")]
    jwks: PathBuf,
    /// The folder with *.cedar policies, read again when they change
    #[arg(long, env = "POLICIES", value_name = "FOLDER", default_value = "demo5-authz/policies")]
    policies: PathBuf,
    /// Who issues tokens (their iss)
    #[arg(long, env = "ISSUER", default_value_t = ValidationParams::default().issuer)]
    issuer: String,
    /// For whom tokens are (their aud)
    #[arg(long, env = "AUDIENCE", default_value_t = ValidationParams::default().audience)]
    audience: String,
    /// How many seconds the issuer's clock may differ from ours
    #[arg(long, env = "SKEW", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(..=300))]
    skew: u64,
    /// The trust domain whose client certificates are believed
    #[arg(long, env = "TRUST_DOMAIN", default_value = TRUST_DOMAIN)]
    trust_domain: String,
    /// Where GET /metrics is served; nowhere unless given
    #[arg(long, env = "METRICS", value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Where decisions are written, as JSON lines: a file, - for stdout, none for nowhere
    #[arg(long, env = "DECISION_LOG", value_name = "FILE", default_value = "-")]
    decision_log: String,
    /// Milliseconds for which it still answers checks after SIGTERM, until Envoy has marked it unhealthy
    #[arg(long, env = "SHUTDOWN_DELAY", value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=3000))]
    shutdown_delay: u16,
}

const EXAMPLES: &str = "\
Examples:
  demo5-token keygen --out keys
  demo5-authz-server --jwks keys/public/jwks.json --policies demo5-authz/policies
  demo5-authz-server --decision-log decisions.jsonl --metrics 127.0.0.1:15004
  demo5-authz-server healthcheck

With --decision-log - stdout carries the decisions and nothing else. SIGTERM or Ctrl-C drains it: health says NOT_SERVING, the last
checks are answered, exit code 0.";

// One thread: a check is microseconds of work, and handing it to another thread costs as much again.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.role.verbose, async |life| match args.role.command {
        Some(RoleCommand::Healthcheck) => health::run_healthcheck(args.listen).await,
        None => serve(args.listen, &args.serve, life).await,
    })
    .await
}

async fn serve(listen: SocketAddr, args: &Serve, life: &Lifecycle) -> anyhow::Result<()> {
    let expected = ValidationParams {
        issuer: args.issuer.clone(),
        audience: args.audience.clone(),
        skew: Duration::from_secs(args.skew),
    };
    let metrics = Metrics::new()?;
    let keys = reload::watch_keys(&args.jwks, &expected, &metrics, life).await
        .map_err(|error: ReloadError| SetupError::new(error))
        .context("no keys to verify tokens with: make some with `demo5-token keygen --out keys`, or name yours with --jwks")?;
    let policies = reload::watch_policies(&args.policies, &metrics, life)
        .await
        .map_err(|error: ReloadError| SetupError::new(error))
        .context("no policies to decide by: name their folder with --policies")?;
    let log = match args.decision_log.as_str() {
        "none" => DecisionLog::disabled(),
        "-" => {
            let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
            DecisionLog::to_writer(tokio::fs::File::from_std(stdout.into()), life)
        }
        file => {
            let opened = tokio::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file).await;
            DecisionLog::to_writer(
                opened.map_err(SetupError::new).with_context(|| format!("cannot write {file}"))?,
                life,
            )
        }
    };
    let authorizer = Authorizer::new(keys.latest, policies.latest, &args.trust_domain, metrics, log);
    // Where stdout is for decisions, it is for nothing else.
    let say = if args.decision_log == "-" { line_err } else { line_out };
    if let Some(address) = args.metrics {
        let listener = cli::listen_with_flag(address, "--metrics (or METRICS)").await?;
        say(&format!("demo5-authz-server serves metrics on {}", listener.local_addr()?));
        server::serve_metrics(authorizer.clone(), listener, life);
    }
    let shutdown_delay = Duration::from_millis(args.shutdown_delay.into());
    let running = RunningServer::start(authorizer, cli::listen(listen).await?, shutdown_delay, life);
    say(&format!("demo5-authz-server listens on {}", running.address()));
    // Runs until a signal ends the role; the server then drains with its lifecycle.
    life.token().cancelled().await;
    Ok(())
}
