//! How an xDS server fans one change out to many streams: `cargo bench -p mesh-xds --bench fanout`.
//!
//! The server is the example `fanout_server` in a process of its own; this process is its clients,
//! on one thread, because the two share the machine's cores. Each client is one TCP connection with
//! one ADS stream. It subscribes in Envoy's order (clusters, endpoints by name, listeners, routes by
//! name), accepts everything, and counts bytes instead of decoding resources.
//!
//! ```text
//! cargo bench -p mesh-xds --bench fanout -- --streams 1000 --clusters 100 --variant delta
//! cargo bench -p mesh-xds --bench fanout -- --control-plane
//! ```
//!
//! Times run from before the request that changes an assignment to the last byte of the response
//! that tells it; they include what this process does. CPU is the server's alone, from /proc, and
//! covers a change's ACKs too: it is the steadier figure.

#[path = "fanout/client.rs"]
mod client;
#[path = "fanout/http2.rs"]
mod http2;
#[path = "fanout/message.rs"]
mod message;
#[path = "fanout/server.rs"]
mod server;

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use shared::report::line_out;
use shared::stats::Latencies;

use client::{Crowd, Script};
use server::Server;

/// How long anything may take; nothing here takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Variant {
    Delta,
    Sotw,
}

/// Measures how the xDS server fans a change out
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo bench -p mesh-xds --bench fanout
  cargo bench -p mesh-xds --bench fanout -- --streams 1000 --clusters 100 --variant delta --json")]
struct Args {
    /// How many streams (1, 100, 1000 unless given)
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    streams: Vec<u32>,
    /// How many clusters (100 and 1000 unless given)
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clusters: Vec<u32>,
    /// Which variant (both unless given)
    #[arg(long, value_delimiter = ',')]
    variant: Vec<Variant>,
    /// How many changes
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    updates: u32,
    /// How many endpoints a cluster has
    #[arg(long, default_value_t = 10)]
    endpoints: u32,
    /// Measure a `ControlPlane`, which has an event log and metrics, instead of the bare server
    #[arg(long)]
    control_plane: bool,
    /// One JSON object a line, nothing else
    #[arg(long)]
    json: bool,
    /// What cargo passes; changes nothing
    #[arg(long, hide = true)]
    bench: bool,
    /// A tiny run, as a test of the bench itself
    #[arg(long, hide = true)]
    test: bool,
}

/// One line of the table.
#[derive(Serialize)]
struct Cell {
    variant: Variant,
    streams: u32,
    clusters: u32,
    updates: u32,
    /// From change to receipt, over all streams and changes, in milliseconds.
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Until the last stream had it: the median over the changes.
    last_ms: f64,
    cpu_ms_an_update: f64,
    rss_mb: f64,
    /// Until all fresh clients held everything.
    fresh_s: f64,
    fresh_cpu_s: f64,
    received_mb: f64,
}

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` runs this too, without `--bench`: then a smoke test is what is wanted.
    let as_test = !std::env::args().any(|argument| argument == "--bench");
    let mut args = Args::parse();
    let or = |given: Vec<u32>, usual: &[u32]| if given.is_empty() { usual.to_vec() } else { given };
    if (as_test && args.streams.is_empty()) || args.test {
        (args.streams, args.clusters, args.updates) = (vec![3], vec![5], 2);
    }
    let streams = or(args.streams, &[1, 100, 1000]);
    let clusters = or(args.clusters, &[100, 1000]);
    let variants = if args.variant.is_empty() { vec![Variant::Delta, Variant::Sotw] } else { args.variant };
    server::raise_file_limit();
    let program = server::find()?;
    // One thread: every core that the clients do not take is the server's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if !args.json {
        line_out(HEADER);
    }
    for variant in variants {
        for clusters in &clusters {
            for streams in &streams {
                let topology = server::Topology {
                    clusters: *clusters,
                    endpoints: args.endpoints,
                    control_plane: args.control_plane,
                };
                let measured = tokio::task::LocalSet::new()
                    .block_on(&runtime, measure(&program, topology, variant, *streams, args.updates));
                let cell = measured
                    .with_context(|| format!("{variant:?}, {streams} streams, {clusters} clusters"))?;
                line_out(&if args.json { serde_json::to_string(&cell)? } else { cell.line() });
            }
        }
    }
    Ok(())
}

async fn measure(
    program: &std::path::Path,
    topology: server::Topology,
    variant: Variant,
    streams: u32,
    updates: u32,
) -> anyhow::Result<Cell> {
    let server = Server::start(program, topology).await?;
    let before = server.stats().await?;
    let script = Rc::new(Script::new(variant == Variant::Delta, topology.clusters));
    let begun = Instant::now();
    let crowd = Crowd::open(server.xds, streams, &script).await?;
    crowd.all_configured(LIMIT).await?;
    let fresh = begun.elapsed();
    let configured = server.settled().await?;
    let (mut each, mut last) = (Latencies::default(), Latencies::default());
    for update in 0..updates {
        crowd.forget_receipts();
        let begun = Instant::now();
        server.update(update * 7 % topology.clusters, topology.endpoints + 1 + update).await?;
        for at in crowd.all_received(LIMIT).await? {
            each.record(at.duration_since(begun));
        }
        last.record(crowd.last_receipt().duration_since(begun));
    }
    let after = server.settled().await?;
    anyhow::ensure!(after.streams_open == u64::from(streams), "streams broke: {after:?}");
    drop(crowd);
    server.stop().await?;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    Ok(Cell {
        variant,
        streams,
        clusters: topology.clusters,
        updates,
        p50_ms: ms(each.percentile(50.0)),
        p99_ms: ms(each.percentile(99.0)),
        max_ms: ms(each.max()),
        last_ms: ms(last.percentile(50.0)),
        cpu_ms_an_update: (after.cpu_s() - configured.cpu_s()) * 1e3 / f64::from(updates),
        rss_mb: after.rss_kb as f64 / 1024.0,
        fresh_s: fresh.as_secs_f64(),
        fresh_cpu_s: configured.cpu_s() - before.cpu_s(),
        received_mb: script.received() as f64 / 1e6,
    })
}

const HEADER: &str = "\
              change to receipt, ms    last      server    server  N fresh clients
      N    C    p50     p99     max      ms   CPU ms/up    RSS MB       s   CPU s";

impl Cell {
    fn line(&self) -> String {
        let Self { variant, streams, clusters, p50_ms, p99_ms, max_ms, last_ms, .. } = self;
        let Self { cpu_ms_an_update, rss_mb, fresh_s, fresh_cpu_s, .. } = self;
        let name = if *variant == Variant::Delta { "D" } else { "S" };
        format!(
            "{name} {streams:>5} {clusters:>4} {p50_ms:>6.1} {p99_ms:>7.1} {max_ms:>7.1} {last_ms:>7.1} \
             {cpu_ms_an_update:>11.2} {rss_mb:>9.1} {fresh_s:>7.2} {fresh_cpu_s:>7.2}"
        )
    }
}
