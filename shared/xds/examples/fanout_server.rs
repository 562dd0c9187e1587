//! An xDS server with a topology of any size, for measuring how it fans out; see `benches/fanout.rs`.
//!
//! ```text
//! POST /update?cluster=3&endpoints=11   {"seq":2,"version":"…"}     changes one assignment
//! GET  /stats                           {"rss_kb":…,"cpu_user_s":…,"cpu_system_s":…,"streams_open":…}
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use clap::Parser;
use http::{Method, StatusCode, Uri};
use mesh_xds::builders::{self, LocalityEndpoints};
use mesh_xds::cache::{EVERYONE, OnRejection};
use mesh_xds::{Cache, ControlPlane, Resource, ResourceType, Server, Snapshot};
use serde_json::json;
use shared::lifecycle::Lifecycle;
use shared::web::PageResponse;
use shared::{cli, web};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The most endpoints that one assignment may have.
const MOST_ENDPOINTS: u32 = 10_000;

/// Serves one snapshot over xDS to any node, and changes it on demand
#[derive(Parser)]
#[command(after_help = "Examples:
  fanout_server --clusters 100 --endpoints 10
  fanout_server --listen 127.0.0.1:18000 --http 127.0.0.1:18001 --clusters 1000
  curl -X POST 'http://127.0.0.1:18001/update?cluster=3&endpoints=11'
  curl http://127.0.0.1:18001/stats")]
struct Args {
    /// Where to serve xDS; port 0 takes any free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to serve /update and /stats
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    /// How many clusters there are: cluster-0, cluster-1 …
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clusters: u32,
    /// How many endpoints each cluster has
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_ENDPOINTS)))]
    endpoints: u32,
    /// How many listeners there are, on ports from 20000
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    listeners: u32,
    /// How many routes there are; the listeners share them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    routes: u32,
    /// Serve a `ControlPlane`, which has an event log and metrics, instead of a bare `Server`
    #[arg(long)]
    control_plane: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    cli::run_role(0, async |life| run(&args, life).await).await
}

async fn run(args: &Args, life: &Lifecycle) -> anyhow::Result<()> {
    raise_file_limit();
    let (xds, http) = (cli::listen(args.listen).await?, cli::listen_with_flag(args.http, "--http").await?);
    let bound = json!({ "xds": xds.local_addr()?.to_string(), "http": http.local_addr()?.to_string() });
    let first = topology(args)?;
    let (cache, streams_open, serving) =
        if args.control_plane { control_plane(xds, life)? } else { bare_server(xds, life) };
    cache.set(EVERYONE, first);
    let (topology, clusters) =
        (Arc::new(Topology { cache, streams_open, turn: Mutex::new(()) }), args.clusters);
    web::serve(http, life, move |request| {
        std::future::ready(topology.answer(request.method(), request.uri(), clusters))
    });
    shared::report::line_out(&bound.to_string());
    serving.await.context("the server's task broke off")?
}

/// A server: its cache, the count of its open streams, and its task.
type Serving = (Arc<Cache>, StreamsOpen, JoinHandle<anyhow::Result<()>>);

type StreamsOpen = Box<dyn Fn() -> u64 + Send + Sync>;

fn bare_server(xds: TcpListener, life: &Lifecycle) -> Serving {
    let cache = Arc::new(Cache::default());
    let server = Server::builder(Arc::clone(&cache), life.token()).build();
    let serving = server.clone();
    let task = life.spawn(async move { Ok(serving.serve(xds).await?) });
    (cache, Box::new(move || server.streams_open()), task)
}

fn control_plane(xds: TcpListener, life: &Lifecycle) -> anyhow::Result<Serving> {
    let control_plane = ControlPlane::start(xds, OnRejection::Keep, &life.token())?;
    let (cache, event_log) = (Arc::clone(control_plane.cache()), control_plane.event_log().clone());
    let streams_open = move || event_log.clients().len() as u64;
    let task = life.spawn(async move {
        control_plane.ended().await;
        Ok(())
    });
    Ok((cache, Box::new(streams_open), task))
}

/// Every stream is a file; the usual 1024 would end a measurement at 1000 of them.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn topology(args: &Args) -> anyhow::Result<Snapshot> {
    let mut resources = Vec::new();
    for index in 0..args.clusters {
        resources.push(Resource::new(&builders::cluster(&cluster_name(index)))?);
        resources.push(assignment(index, args.endpoints)?);
    }
    let ports = 20_000..;
    for (index, port) in (0..args.listeners).zip(ports) {
        let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let route = format!("route-{}", index % args.routes);
        resources.push(Resource::new(&builders::listener(&format!("listener-{index}"), at, &route))?);
    }
    for index in 0..args.routes {
        let cluster = cluster_name(index % args.clusters);
        resources.push(Resource::new(&builders::route(&format!("route-{index}"), &cluster))?);
    }
    Ok(Snapshot::new(resources)?)
}

fn cluster_name(index: u32) -> String {
    format!("cluster-{index}")
}

fn assignment(cluster: u32, endpoints: u32) -> anyhow::Result<Resource> {
    // 10.0.0.0/8, each cluster a stretch of its own.
    let address = |one: u32| {
        let bits = (10 << 24) | (cluster.wrapping_mul(64).wrapping_add(one) & 0x00ff_ffff);
        SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), 8080)
    };
    let addresses = (0..endpoints).map(address).collect();
    let place = LocalityEndpoints { region: "here".to_owned(), weight: 1, priority: 0, addresses };
    Ok(Resource::new(&builders::endpoints(&cluster_name(cluster), &[place]))?)
}

struct Topology {
    cache: Arc<Cache>,
    streams_open: StreamsOpen,
    /// Reading the snapshot, changing it and publishing it is one step.
    turn: Mutex<()>,
}

/// A field of a request that is not what it should be.
struct Wrong {
    field: &'static str,
    reason: String,
}

impl Topology {
    fn answer(&self, method: &Method, uri: &Uri, clusters: u32) -> PageResponse {
        match (method, uri.path()) {
            (&Method::POST, "/update") => {
                let query = uri.query().unwrap_or_default();
                let cluster = number(query, "cluster", 0, clusters - 1);
                let endpoints = number(query, "endpoints", 1, MOST_ENDPOINTS);
                match cluster.and_then(|cluster| Ok((cluster, endpoints?))) {
                    Ok((cluster, endpoints)) => done(self.update(cluster, endpoints)),
                    Err(Wrong { field, reason }) => {
                        web::json(StatusCode::BAD_REQUEST, &json!({ "field": field, "reason": reason }))
                    }
                }
            }
            (&Method::GET, "/stats") => done(self.stats()),
            (_, "/update" | "/stats") => {
                web::json(StatusCode::METHOD_NOT_ALLOWED, &json!({ "reason": "POST /update or GET /stats" }))
            }
            _ => web::json(StatusCode::NOT_FOUND, &json!({ "reason": "there are /update and /stats" })),
        }
    }

    fn update(&self, cluster: u32, endpoints: u32) -> anyhow::Result<serde_json::Value> {
        let changed = Arc::new(assignment(cluster, endpoints)?);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.cache.snapshot(EVERYONE).context("nothing is published")?;
        let instead = |one: &Arc<Resource>| {
            let same = one.kind() == changed.kind() && one.name() == changed.name();
            Arc::clone(if same { &changed } else { one })
        };
        let snapshot = Snapshot::new(before.resources().map(instead))?;
        let version = snapshot.of(ResourceType::Endpoints).version().to_string();
        Ok(json!({ "seq": self.cache.set(EVERYONE, snapshot), "version": version }))
    }

    /// What the kernel counts for this process. Source: proc(5).
    fn stats(&self) -> anyhow::Result<serde_json::Value> {
        let stat = std::fs::read_to_string("/proc/self/stat").context("no /proc here")?;
        // The second field is the program's name, which may hold anything; count from behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| -> anyhow::Result<f64> {
            Ok(fields.get(at).context("a short /proc/self/stat")?.parse::<f64>()? / 100.0)
        };
        let status = std::fs::read_to_string("/proc/self/status")?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let rss: u64 = rss.trim().trim_end_matches(" kB").parse()?;
        Ok(json!({
            "rss_kb": rss,
            "cpu_user_s": ticks(11)?,
            "cpu_system_s": ticks(12)?,
            "streams_open": (self.streams_open)(),
        }))
    }
}

fn done(outcome: anyhow::Result<serde_json::Value>) -> PageResponse {
    match outcome {
        Ok(value) => web::json(StatusCode::OK, &value),
        Err(error) => {
            web::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "reason": format!("{error:#}") }))
        }
    }
}

fn number(query: &str, field: &'static str, least: u32, most: u32) -> Result<u32, Wrong> {
    let wrong = |reason: String| Wrong { field, reason };
    let given = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut given = given.filter(|(name, _)| *name == field).map(|(_, value)| value);
    let value = given.next().ok_or_else(|| wrong(format!("is missing; give {least} to {most}")))?;
    if given.next().is_some() {
        return Err(wrong("is given twice".to_owned()));
    }
    let parsed = value.parse().map_err(|_| wrong(format!("is not a number from {least} to {most}")))?;
    if (least..=most).contains(&parsed) {
        Ok(parsed)
    } else {
        Err(wrong(format!("{parsed} is not in {least} to {most}")))
    }
}
