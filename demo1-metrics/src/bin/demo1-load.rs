//! The load as a role of its own: an open loop, and what came of it.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use demo1_metrics::load::{Outcome, Plan};
use http::Uri;
use shared::{cli, report};

/// Sends requests at a rate that does not wait for answers, and tells how long they took
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  demo1-load --target http://127.0.0.1:11000/ --rate 50 --duration 60

A request's time counts from when it was due. One that is held up by those before it counts that too.

Exit code: 0 every request was answered with success, 1 one was not, 2 wrong usage."
)]
struct Args {
    /// What to ask for
    #[arg(long, env = "TARGET", value_name = "URI", default_value = "http://127.0.0.1:11000/", value_parser = target)]
    target: Uri,
    /// Requests a second
    #[arg(long, env = "RATE", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// For how many seconds
    #[arg(long, env = "DURATION", value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// Show more logs on stderr
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn target(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(uri),
        _ => Err("write it as http://HOST:PORT/".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(args.verbose, async |_| {
        let plan = Plan { uri: args.target, rate: args.rate, duration: Duration::from_secs(args.duration) };
        let bar = report::progress("requests", plan.requests());
        let outcome = plan.run(|| bar.inc(1)).await;
        bar.finish_and_clear();
        for line in lines(&outcome) {
            report::line_out(&line);
        }
        let first = outcome.first_failure.as_deref().unwrap_or_default();
        anyhow::ensure!(outcome.failed() == 0, "{} failed, the first: {first}", outcome.failed());
        Ok(())
    })
    .await
}

/// What came back, for people: a summary, and a histogram.
fn lines(outcome: &Outcome) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} requests in {:.1?}: {} succeeded, {} failed",
            outcome.sent,
            outcome.took,
            outcome.succeeded,
            outcome.failed()
        ),
        outcome.latencies.to_string(),
    ];
    let buckets = outcome.buckets();
    let most = buckets.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    for (end, count) in buckets {
        // At least one sign for whatever was there.
        let bar = usize::try_from((40 * count).div_ceil(most)).unwrap_or(40);
        lines.push(
            format!("  up to {:>8}  {count:>7}  {}", format!("{end:.0?}"), "#".repeat(bar))
                .trim_end()
                .to_owned(),
        );
    }
    lines
}
