//! A client that counts who answers, for a terminal or a container.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::{Table, presets};
use demo4_lb::caller::{Call, Caller, Load, Tally};
use futures::StreamExt;
use serde_json::json;
use shared::cli::{self, SetupError};
use shared::lifecycle::Lifecycle;
use shared::report::line_out;

/// Calls the echo service, and prints who answered how often and how fast
#[derive(Clone, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Whom to call: Envoy's listener or a backend (http://HOST:PORT), or xds:///SERVICE to ask the control plane
    #[arg(long, env = "TARGET", value_name = "URL", default_value = "http://127.0.0.1:14000")]
    target: String,
    /// The control plane to ask, for a target xds:///SERVICE
    #[arg(long, env = "CONTROL_PLANE", value_name = "HOST:PORT", default_value = "127.0.0.1:14002")]
    control_plane: String,
    /// How many calls; notes are kept on each, so at most a million
    #[arg(long, env = "COUNT", value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Calls a second; 0 sends them as fast as they are answered, eight at once
    #[arg(
        long,
        env = "RATE",
        value_name = "R",
        default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(..=100_000)
    )]
    rate: u32,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Show more logs on stderr
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  demo4-client                                     300 calls through Envoy on the lab port
  demo4-client --count 3000 --rate 100             a steady load for half a minute
  demo4-client --target http://127.0.0.1:50051 --json
  demo4-client --target xds:///echo                without a proxy, by the control plane on the lab port

Ctrl-C ends it early, and it tells what it has seen so far. The exit code is 1 if a call failed, 2 for wrong usage,
and 0 otherwise, as after Ctrl-C.";

/// Calls at once when no rate is asked for.
const CONCURRENCY: usize = 8;

/// Some calls got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {calls} calls to {target} failed, the first with: {first}\n{next}")]
struct CallsFailed {
    failed: u64,
    calls: usize,
    target: String,
    first: String,
    next: String,
}

/// What to look at next. Envoy says "upstream" when it is there and its backends are not.
fn next_step(args: &Args, first: &str) -> String {
    if args.target.starts_with("xds:") {
        return format!(
            "Is the control plane up on {}, does it know a service of this name, and are there backends? \
             demo4-control-plane --xds-log shows what it was asked and what it answered.",
            args.control_plane
        );
    }
    // Only of the Envoy on the lab port it is known where its admin interface is.
    let lab = args.target.ends_with(&format!(":{}", shared::ports::DEMO4_ENVOY));
    let admin = format!("http://127.0.0.1:{}", shared::ports::DEMO4_ADMIN);
    let page_hint = |page: &str| {
        if lab { format!("`curl -s {admin}/{page}`") } else { format!("/{page} of its admin interface") }
    };
    if first.contains("upstream") {
        return format!(
            "Envoy is up, but reached no backend: {} shows which it knows. Are they up, and does the control \
             plane know where they are?",
            page_hint("clusters")
        );
    }
    format!(
        "Is Envoy up? {} tells, and `demo4-lb --stay` or `docker compose up` start it; --target calls another \
         address.",
        page_hint("ready")
    )
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.verbose, async |life| call(&args, life).await).await
}

async fn call(args: &Args, life: &Lifecycle) -> anyhow::Result<()> {
    let caller = match args.target.strip_prefix("xds:///") {
        Some(service) => Caller::proxyless(&args.control_plane, service),
        None => Caller::connect(&args.target),
    };
    let caller = caller.map_err(SetupError::new)?;
    tracing::info!("{} calls to {}", args.count, args.target);
    // A signal drops what is awaited here; a task of the lifecycle still has its end to tell.
    let (args, scope) = (args.clone(), life.clone());
    life.spawn(async move { run(&args, caller, &scope).await }).await?
}

/// Calls until all calls have ended or the role is told to stop, and prints what was seen.
async fn run(args: &Args, caller: Caller, life: &Lifecycle) -> anyhow::Result<()> {
    let count = args.count as usize;
    let started = Instant::now();
    let calls = match args.rate {
        0 => {
            let ended = caller.call_stream(count, CONCURRENCY);
            ended.take_until(life.token().cancelled_owned()).collect().await
        }
        // It stops with the lifecycle by itself.
        rate => Load::with_count(count, caller.clone(), rate, life).finish().await,
    };
    let duration = started.elapsed();
    let tally: Tally = calls.iter().collect();
    if args.json {
        line_out(&as_json(args, &calls, &tally, duration).to_string());
    } else {
        as_tables(args, &calls, &tally, duration);
    }
    match &tally.first_failure {
        None => Ok(()),
        Some((_, status)) => Err(CallsFailed {
            failed: tally.failed(),
            calls: calls.len(),
            target: args.target.clone(),
            first: error_chain(status),
            next: next_step(args, &error_chain(status)),
        }
        .into()),
    }
}

/// The status and its causes: "tcp connect error" is for the cause to explain.
fn error_chain(status: &tonic::Status) -> String {
    let mut error_chain = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let text = error.to_string();
        if !error_chain.contains(&text) {
            error_chain += &format!(": {text}");
        }
        cause = error.source();
    }
    error_chain
}

fn as_json(args: &Args, calls: &[Call], tally: &Tally, duration: Duration) -> serde_json::Value {
    let shares: serde_json::Map<_, _> =
        tally.shares.iter().map(|(backend, calls)| (backend.to_owned(), calls.into())).collect();
    let ms = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    json!({
        "target": args.target,
        "asked": args.count,
        "calls": calls.len(),
        "seconds": (duration.as_secs_f64() * 1e3).round() / 1e3,
        "answered": shares,
        "failed": tally.failures,
        "latency_ms": {
            "p50": ms(tally.latencies.percentile(50.0)),
            "p90": ms(tally.latencies.percentile(90.0)),
            "p99": ms(tally.latencies.percentile(99.0)),
            "max": ms(tally.latencies.max()),
        },
    })
}

fn as_tables(args: &Args, calls: &[Call], tally: &Tally, duration: Duration) {
    let answered = tally.shares.total();
    let short = if calls.len() < args.count as usize { format!(" of {}", args.count) } else { String::new() };
    line_out(&format!(
        "{}{short} calls to {} in {duration:.1?}: {answered} answered, {} failed",
        calls.len(),
        args.target,
        tally.failed()
    ));
    if answered > 0 {
        let mut table = table(["backend", "calls", "share"]);
        for (backend, calls) in tally.shares.iter() {
            let share = 100.0 * calls as f64 / answered as f64;
            table.add_row([backend, &calls.to_string(), &format!("{share:.1} %")]);
        }
        line_out(&table.to_string());
        line_out(&format!("latency: {}", tally.latencies));
    }
    if tally.failed() > 0 {
        let mut table = table(["status", "calls"]);
        for (status, calls) in &tally.failures {
            table.add_row([status, &calls.to_string()]);
        }
        line_out(&table.to_string());
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table
}
