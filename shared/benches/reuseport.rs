//! What an answer costs: `cargo bench -p shared --bench reuseport`.
//!
//! Two processes behind one port, 64 connections that are kept, in turns within one run:
//!
//! - `reuseport`: the experiment's server, as it is
//! - `bare hyper`: the least that answers HTTP/1.1 with hyper: no limits, no graceful end
//! - `nginx`, if it is installed: two workers, `listen … reuseport`, `return 200`
//! - `Go net/http`, if Go is installed: the same answer by its standard library
//!
//! The load is `wrk`, or a client of our own where there is none (then fewer requests, as it takes more of the
//! CPU that all share). CPU is the servers' alone, from /proc; so this is for Linux. All on loopback.

#[path = "reuseport/contestant.rs"]
mod contestant;
#[path = "reuseport/load.rs"]
mod load;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use shared::report::line_out;

use contestant::Contestant;

/// Measures what an answer costs, beside others
#[derive(Parser)]
struct Args {
    /// How many rounds; in each all take their turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long a turn takes, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Be a bare hyper server on this port (what this program starts by itself)
    #[arg(long, hide = true)]
    bare: Option<u16>,
    /// What cargo passes; changes nothing
    #[arg(long, hide = true)]
    bench: bool,
    /// A tiny run, as a test of the bench itself
    #[arg(long, hide = true)]
    test: bool,
}

/// Connections that are kept open.
const CONNECTIONS: u32 = 64;

/// One turn of one contestant.
#[derive(Clone, Copy, Debug)]
struct Turn {
    requests_a_second: f64,
    cpu_us_a_request: f64,
    rss_kb: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.bare {
        Some(port) => runtime.block_on(contestant::bare(port)),
        None => runtime.block_on(measure(&args)),
    }
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let (rounds, turn) = if args.test { (1, 1) } else { (args.rounds, args.seconds) };
    let turn = Duration::from_secs(turn);
    let mut contestants = vec![Contestant::ours().await?, Contestant::bare_hyper().await?];
    for (name, other) in [("nginx", Contestant::nginx().await?), ("Go", Contestant::go().await?)] {
        match other {
            Some(other) => contestants.push(other),
            None => line_out(&format!("{name}: not measured, since it is not installed")),
        }
    }
    let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); contestants.len()];
    for _ in 0..rounds {
        for (contestant, turns) in contestants.iter().zip(&mut turns) {
            turns.push(take_turn(contestant, turn).await?);
        }
    }
    line_out(&format!(
        "{} connections, {rounds} turns of {turn:?} each, load by {}; medians, and ratios within a round",
        CONNECTIONS,
        load::name()
    ));
    line_out(
        "server       requests/s   CPU µs a request   RSS MB a process   req/s ÷ bare   CPU ÷ bare   CPU ÷ nginx   CPU ÷ Go",
    );
    for (at, contestant) in contestants.iter().enumerate() {
        let of = |value: fn(&Turn) -> f64| median(turns[at].iter().map(value).collect());
        let against = |other: &str, value: fn(&Turn) -> f64| {
            let other = contestants.iter().position(|contestant| contestant.name == other)?;
            let ratios =
                turns[at].iter().zip(&turns[other]).map(|(ours, theirs)| value(ours) / value(theirs));
            Some(median(ratios.collect()))
        };
        let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        line_out(&format!(
            "{:<12} {:>10.0} {:>18.1} {:>18.1} {:>14} {:>12} {:>13} {:>10}",
            contestant.name,
            of(|turn| turn.requests_a_second),
            of(|turn| turn.cpu_us_a_request),
            of(|turn| turn.rss_kb as f64 / 1024.0),
            ratio(against("bare hyper", |turn| turn.requests_a_second)),
            ratio(against("bare hyper", |turn| turn.cpu_us_a_request)),
            ratio(against("nginx", |turn| turn.cpu_us_a_request)),
            ratio(against("Go net/http", |turn| turn.cpu_us_a_request)),
        ));
    }
    let (stripped, whole) = contestant::size_of_ours()?;
    line_out(&format!("the program: {stripped:.1} MB stripped, {whole:.1} MB as built"));
    Ok(())
}

async fn take_turn(contestant: &Contestant, turn: Duration) -> anyhow::Result<Turn> {
    let before = contestant.cpu()?;
    let (load, rss_kb) = tokio::join!(load::run(contestant.address, CONNECTIONS, turn), async {
        // While all connections are open.
        tokio::time::sleep(turn / 2).await;
        contestant.rss_kb()
    });
    let (load, cpu) = (load?, contestant.cpu()? - before);
    anyhow::ensure!(load.failed == 0, "{}: {} requests failed", contestant.name, load.failed);
    let requests = load.requests as f64;
    Ok(Turn {
        requests_a_second: requests / load.took.as_secs_f64(),
        cpu_us_a_request: cpu.as_secs_f64() * 1e6 / requests,
        rss_kb: rss_kb.context("no process of a server is there")?,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
