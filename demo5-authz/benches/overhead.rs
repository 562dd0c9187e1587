//! What asking adds to a call through Envoy, by our authorizer and, where Go and grpc-go are installed, by a sample in Go.
//!
//! ```text
//! cargo bench -p demo5-authz --bench overhead [-- --series 10 --calls 10000]
//! ```
//!
//! One Envoy with a door for each way, one backend, one caller with a connection to each door; calls go one at a time, and the
//! ways take turns of 50, so that what else the machine does falls on all alike. The sample only looks whether there is a
//! token; ours verifies it (it is known), asks the policies and counts. On Debian the sample needs `golang-go` and
//! `golang-google-grpc-dev`.

mod server;

use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use demo5_authz::claims::Claims;
use demo5_authz::client::{Call, Caller, Operation, Protocol};
use demo5_authz::issuer::{Issuer, KeyType};
use demo5_authz::token::ValidationParams;
use demo5_authz::topology::{AuthorizerCluster, EnvoyTopology, ListenerSpec, loopback};
use serde_json::{Value, json};
use shared::envoy::{Envoy, Serving};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::poll::wait_until;
use shared::report::line_out;
use shared::stats::Latencies;
use shared::tools;

use server::Server;

/// Measures what asking adds to a call, beside a sample in Go
#[derive(Parser)]
struct Args {
    /// How many series; each gives one value of p50 and of p99
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    series: u32,
    /// Calls of a series, each way
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000))]
    calls: u32,
    /// Envoy does not ask the authorizers for their health
    #[arg(long)]
    no_health_checks: bool,
    /// What cargo passes; changes nothing
    #[arg(long, hide = true)]
    bench: bool,
}

/// Calls of one turn.
const CALLS_PER_TURN: u32 = 50;

const LIMIT: Duration = Duration::from_secs(20);
const OFTEN: Duration = Duration::from_millis(10);

/// The ways by their names, which are those of their doors too.
const NO_AUTHZ: &str = "without";
const OURS: &str = "ours";
const SAMPLE: &str = "sample in Go";

/// A sample in Go.
const GO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/overhead/sample.go");

/// One way to call: a door of Envoy, and who is asked there.
struct CallPath {
    name: &'static str,
    caller: Caller,
    authorizer: Option<Server>,
    results: Vec<Series>,
}

/// What one series gave.
#[derive(Clone, Copy, Debug)]
struct Series {
    p50: Duration,
    p99: Duration,
    cpu_per_call: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (args, life) = (Args::parse(), Lifecycle::default());
    let measured = measure(&args, &life).await;
    let ended = life.shut_down(GRACE).await;
    measured.and(ended.context("not everything ended"))
}

async fn measure(args: &Args, life: &Lifecycle) -> anyhow::Result<()> {
    let issuer = Issuer::generate(KeyType::default())?;
    let claims = Claims::new(&ValidationParams::default(), "ana", &["reader"], Duration::from_secs(3600));
    let token = issuer.sign(&claims)?;
    let call = Call::new(Operation::Hello).with_token(&token);
    let mut backend = Command::new(env!("CARGO_BIN_EXE_demo5-backend"));
    backend.args(["--listen", "127.0.0.1:0"]);
    let backend = Server::start(backend, tempfile::tempdir()?)?;
    let mut authorizers = vec![(NO_AUTHZ, None), (OURS, Some(Server::authorizer(&issuer, false)?))];
    match sample()? {
        Ok(server) => authorizers.push((SAMPLE, Some(server))),
        Err(why) => line_out(&format!("{SAMPLE}: not measured, since {why}")),
    }
    let envoy = start_envoy(&authorizers, &backend, !args.no_health_checks, life).await?;
    let listeners = envoy.admin().listeners().await?;
    let mut paths = Vec::new();
    for (name, authorizer) in authorizers {
        let listener =
            listeners.iter().find(|listener| listener.name == name).context("Envoy lacks a door")?;
        let caller = Caller::plain(listener.address)?;
        // Connections are made, health was asked for, and the token is verified once.
        wait_until(name, OFTEN, LIMIT, || async {
            let results = caller.call(Protocol::Grpc, &call).await.map_err(|error| error.to_string())?;
            if results.reached_backend() { Ok(()) } else { Err(results.to_string()) }
        })
        .await?;
        paths.push(CallPath { name, caller, authorizer, results: Vec::new() });
    }
    for number in 1..=args.series {
        line_out(&format!("series {number} of {}", args.series));
        series(&mut paths, args.calls, &call).await?;
    }
    envoy.stop().await;
    print_results(args, &paths);
    Ok(())
}

/// The sample, built here; or why it cannot be.
fn sample() -> anyhow::Result<Result<Server, String>> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("sample");
    let go = |arguments: &[&str]| {
        let mut go = Command::new("go");
        go.args(arguments).env("GO111MODULE", "off").env("GOCACHE", folder.path().join("cache"));
        go
    };
    let path = match go(&["env", "GOPATH"]).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Err("Go is not installed".to_owned()));
        }
        Err(error) => return Err(error).context("go"),
    };
    line_out("building the sample");
    // Where Debian has what its packages bring.
    let path = format!("{path}:/usr/share/gocode");
    let mut build = go(&["build", "-o"]);
    let built = build.arg(&program).arg(GO).env("GOPATH", path).stdin(Stdio::null()).output()?;
    if !built.status.success() {
        return Ok(Err(format!("it cannot be built: {}", String::from_utf8_lossy(&built.stderr).trim())));
    }
    Ok(Ok(Server::start(Command::new(program), folder)?))
}

async fn start_envoy(
    authorizers: &[(&'static str, Option<Server>)],
    backend: &Server,
    health_checks: bool,
    life: &Lifecycle,
) -> anyhow::Result<Serving> {
    let listener = |(name, server): &(&str, Option<Server>)| match server {
        Some(_) => ListenerSpec::new(name, name),
        None => ListenerSpec::without_ext_authz(name),
    };
    let cluster = |(name, server): &(&str, Option<Server>)| {
        let addresses = vec![server.as_ref()?.address()];
        Some(AuthorizerCluster { name: (*name).to_owned(), addresses, health_checks })
    };
    let topology = EnvoyTopology {
        admin: loopback(0),
        listeners: authorizers.iter().map(listener).collect(),
        authorizers: authorizers.iter().filter_map(cluster).collect(),
        backend: backend.address(),
        tls: None,
    };
    let mut config: Value = serde_json::from_str(&topology.to_yaml()?)?;
    for listener in config["static_resources"]["listeners"].as_array_mut().into_iter().flatten() {
        if listener["name"] == SAMPLE {
            // A sample reads headers as texts, which is Envoy's default.
            let filters = &mut listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
            filters[0]["typed_config"]["encode_raw_headers"] = json!(false);
        }
    }
    let program = tools::envoy(None).await?;
    Ok(Envoy::new(&program.path, config.to_string()).start(life).await?.ready(LIMIT).await?)
}

async fn series(paths: &mut [CallPath], calls: u32, call: &Call<'_>) -> anyhow::Result<()> {
    let cpu = |path: &CallPath| path.authorizer.as_ref().map_or(Ok(Duration::ZERO), Server::cpu);
    let before = paths.iter().map(cpu).collect::<anyhow::Result<Vec<_>>>()?;
    let mut latencies = vec![Latencies::default(); paths.len()];
    for turn in 0..calls / CALLS_PER_TURN {
        for at in 0..paths.len() {
            // Nobody always comes first, or after the same one.
            let at = if turn % 2 == 0 { at } else { paths.len() - 1 - at };
            for _ in 0..CALLS_PER_TURN {
                let results = paths[at].caller.call(Protocol::Grpc, call).await?;
                anyhow::ensure!(results.reached_backend(), "{}: {results}", paths[at].name);
                latencies[at].record(results.duration);
            }
        }
    }
    for ((path, before), latencies) in paths.iter_mut().zip(before).zip(latencies) {
        let cpu_per_call = cpu(path)?.saturating_sub(before) / (calls / CALLS_PER_TURN * CALLS_PER_TURN);
        let [p50, p99] = [50.0, 99.0].map(|percent| latencies.percentile(percent));
        path.results.push(Series { p50, p99, cpu_per_call });
    }
    Ok(())
}

fn print_results(args: &Args, paths: &[CallPath]) {
    line_out(&format!(
        "{} series of {} calls each way; medians of the series, and the lowest and highest",
        args.series, args.calls
    ));
    let row = |name: &str, columns: &[String]| {
        let columns: Vec<_> = columns.iter().map(|column| format!("{column:>22}")).collect();
        line_out(&format!("{name:<18}{}", columns.concat()));
    };
    row("", &["p50 µs", "p99 µs", "CPU µs a check", "RSS MiB"].map(ToOwned::to_owned));
    let [without, with_authz @ ..] = paths else { return };
    row(
        NO_AUTHZ,
        &[median_and_range(without.of(|one| one.p50)), median_and_range(without.of(|one| one.p99))],
    );
    for path in with_authz {
        let [p50, p99] = [path.of(|one| one.p50), path.of(|one| one.p99)].map(median_and_range);
        let cpu = median_and_range(path.of(|one| one.cpu_per_call));
        let rss = path.authorizer.as_ref().and_then(|server| server.rss().ok());
        let rss =
            rss.map_or_else(|| "?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)));
        row(path.name, &[p50, p99, cpu, rss]);
    }
    for path in with_authz {
        let overhead = [path.overhead(without, |one| one.p50), path.overhead(without, |one| one.p99)];
        row(&format!("{} adds", path.name), &overhead.map(median_and_range));
    }
    if let [ours, sample] = with_authz {
        let lower = |of: fn(&Series) -> Duration| {
            ours.of(of).iter().zip(sample.of(of)).filter(|(a, b)| **a < *b).count()
        };
        line_out(&format!(
            "ours adds less in {} of {} series at p50, in {} at p99",
            lower(|one| one.p50),
            args.series,
            lower(|one| one.p99)
        ));
    }
}

impl CallPath {
    /// A figure of each series, in microseconds.
    fn of(&self, figure: fn(&Series) -> Duration) -> Vec<f64> {
        self.results.iter().map(|series| figure(series).as_secs_f64() * 1e6).collect()
    }

    /// How much more than the other way's in the same series.
    fn overhead(&self, other: &Self, figure: fn(&Series) -> Duration) -> Vec<f64> {
        self.of(figure).iter().zip(other.of(figure)).map(|(one, other)| one - other).collect()
    }
}

/// The median, and the ends.
fn median_and_range(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => String::new(),
        [first, .., last] => format!("{:.0} ({first:.0} to {last:.0})", values[values.len() / 2]),
        [only] => format!("{only:.0}"),
    }
}
