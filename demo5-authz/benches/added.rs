//! What asking adds to a call through Envoy, by our authorizer and, where Go and grpc-go are installed, by a sample in Go.
//!
//! ```text
//! cargo bench -p demo5-authz --bench added [-- --series 10 --calls 10000]
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
use demo5_authz::client::{Call, Caller, Protocol, Wish};
use demo5_authz::issuer::{Issuer, Kind};
use demo5_authz::token::Expected;
use demo5_authz::topology::{Authorizers, Door, World, loopback};
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
const TURN: u32 = 50;

const LIMIT: Duration = Duration::from_secs(20);
const OFTEN: Duration = Duration::from_millis(10);

/// The ways by their names, which are those of their doors too.
const WITHOUT: &str = "without";
const OURS: &str = "ours";
const SAMPLE: &str = "sample in Go";

/// A sample in Go.
const GO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/added/sample.go");

/// One way to call: a door of Envoy, and who is asked there.
struct Way {
    name: &'static str,
    caller: Caller,
    authorizer: Option<Server>,
    seen: Vec<Series>,
}

/// What one series gave.
#[derive(Clone, Copy, Debug)]
struct Series {
    p50: Duration,
    p99: Duration,
    cpu_a_call: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (args, life) = (Args::parse(), Lifecycle::default());
    let measured = measure(&args, &life).await;
    let ended = life.shut_down(GRACE).await;
    measured.and(ended.context("not everything ended"))
}

async fn measure(args: &Args, life: &Lifecycle) -> anyhow::Result<()> {
    let issuer = Issuer::generate(Kind::default())?;
    let claims = Claims::new(&Expected::default(), "ana", &["reader"], Duration::from_secs(3600));
    let token = issuer.sign(&claims)?;
    let call = Call::new(Wish::Hello).token(&token);
    let mut backend = Command::new(env!("CARGO_BIN_EXE_demo5-backend"));
    backend.args(["--listen", "127.0.0.1:0"]);
    let backend = Server::start(backend, tempfile::tempdir()?)?;
    let mut authorizers = vec![(WITHOUT, None), (OURS, Some(Server::authorizer(&issuer, false)?))];
    match sample()? {
        Ok(server) => authorizers.push((SAMPLE, Some(server))),
        Err(why) => line_out(&format!("{SAMPLE}: not measured, since {why}")),
    }
    let envoy = start_envoy(&authorizers, &backend, !args.no_health_checks, life).await?;
    let doors = envoy.admin().listeners().await?;
    let mut ways = Vec::new();
    for (name, authorizer) in authorizers {
        let door = doors.iter().find(|door| door.name == name).context("Envoy lacks a door")?;
        let caller = Caller::plain(door.address)?;
        // Connections are made, health was asked for, and the token is verified once.
        wait_until(name, OFTEN, LIMIT, || async {
            let seen = caller.call(Protocol::Grpc, &call).await.map_err(|error| error.to_string())?;
            if seen.passed() { Ok(()) } else { Err(seen.to_string()) }
        })
        .await?;
        ways.push(Way { name, caller, authorizer, seen: Vec::new() });
    }
    for number in 1..=args.series {
        line_out(&format!("series {number} of {}", args.series));
        series(&mut ways, args.calls, &call).await?;
    }
    envoy.stop().await;
    tell(args, &ways);
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
        Ok(told) => String::from_utf8_lossy(&told.stdout).trim().to_owned(),
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
    let door = |(name, server): &(&str, Option<Server>)| match server {
        Some(_) => Door::new(name, name),
        None => Door::bare(name),
    };
    let cluster = |(name, server): &(&str, Option<Server>)| {
        let addresses = vec![server.as_ref()?.address()];
        Some(Authorizers { cluster: (*name).to_owned(), addresses, health_checks })
    };
    let world = World {
        admin: loopback(0),
        doors: authorizers.iter().map(door).collect(),
        authorizers: authorizers.iter().filter_map(cluster).collect(),
        backend: backend.address(),
        tls: None,
    };
    let mut config: Value = serde_json::from_str(&world.to_yaml()?)?;
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

async fn series(ways: &mut [Way], calls: u32, call: &Call<'_>) -> anyhow::Result<()> {
    let cpu = |way: &Way| way.authorizer.as_ref().map_or(Ok(Duration::ZERO), Server::cpu);
    let before = ways.iter().map(cpu).collect::<anyhow::Result<Vec<_>>>()?;
    let mut latencies = vec![Latencies::default(); ways.len()];
    for turn in 0..calls / TURN {
        for at in 0..ways.len() {
            // Nobody always comes first, or after the same one.
            let at = if turn % 2 == 0 { at } else { ways.len() - 1 - at };
            for _ in 0..TURN {
                let seen = ways[at].caller.call(Protocol::Grpc, call).await?;
                anyhow::ensure!(seen.passed(), "{}: {seen}", ways[at].name);
                latencies[at].record(seen.took);
            }
        }
    }
    for ((way, before), latencies) in ways.iter_mut().zip(before).zip(latencies) {
        let cpu_a_call = cpu(way)?.saturating_sub(before) / (calls / TURN * TURN);
        let [p50, p99] = [50.0, 99.0].map(|percent| latencies.percentile(percent));
        way.seen.push(Series { p50, p99, cpu_a_call });
    }
    Ok(())
}

fn tell(args: &Args, ways: &[Way]) {
    line_out(&format!(
        "{} series of {} calls each way; medians of the series, and the lowest and highest",
        args.series, args.calls
    ));
    let row = |name: &str, columns: &[String]| {
        let columns: Vec<_> = columns.iter().map(|column| format!("{column:>22}")).collect();
        line_out(&format!("{name:<18}{}", columns.concat()));
    };
    row("", &["p50 µs", "p99 µs", "CPU µs a check", "RSS MiB"].map(ToOwned::to_owned));
    let [without, asking @ ..] = ways else { return };
    row(WITHOUT, &[spread(without.of(|one| one.p50)), spread(without.of(|one| one.p99))]);
    for way in asking {
        let [p50, p99] = [way.of(|one| one.p50), way.of(|one| one.p99)].map(spread);
        let cpu = spread(way.of(|one| one.cpu_a_call));
        let rss = way.authorizer.as_ref().and_then(|server| server.rss().ok());
        let rss =
            rss.map_or_else(|| "?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)));
        row(way.name, &[p50, p99, cpu, rss]);
    }
    for way in asking {
        let added = [way.added(without, |one| one.p50), way.added(without, |one| one.p99)];
        row(&format!("{} adds", way.name), &added.map(spread));
    }
    if let [ours, sample] = asking {
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

impl Way {
    /// A figure of each series, in microseconds.
    fn of(&self, figure: fn(&Series) -> Duration) -> Vec<f64> {
        self.seen.iter().map(|series| figure(series).as_secs_f64() * 1e6).collect()
    }

    /// How much more than the other way's in the same series.
    fn added(&self, other: &Self, figure: fn(&Series) -> Duration) -> Vec<f64> {
        self.of(figure).iter().zip(other.of(figure)).map(|(one, other)| one - other).collect()
    }
}

/// The median, and the ends.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => String::new(),
        [first, .., last] => format!("{:.0} ({first:.0} to {last:.0})", values[values.len() / 2]),
        [only] => format!("{only:.0}"),
    }
}
