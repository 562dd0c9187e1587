//! What most exercises here stand on: Envoys that call services, load through them, and a Prometheus that watches.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};
use serde_json::{Value, json};
use shared::cli::SetupError;
use shared::envoy::{Envoy, Serving};
use shared::lifecycle::Lifecycle;
use shared::ports::ReservedPort;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinSet;

use crate::load;
use crate::prometheus::{self, Api, Prometheus, PrometheusError, REMEDY, Series, Target, Watch};
use crate::service::{Fault, Service};
use crate::topology::{self, Place};
use shared::client::ClientError;

/// How often everything is scraped: often, so that a check is short.
const EVERY: Duration = Duration::from_millis(200);

/// The window that the tasks ask about.
pub(super) const WINDOW: &str = "2s";

/// A load that fills the window, with time to spare for a scrape and for what was in flight before.
pub(super) const FILLS: Duration = Duration::from_millis(2800);

const READY: Duration = Duration::from_secs(20);

/// There is no Prometheus.
#[derive(Debug, thiserror::Error)]
#[error("this exercise asks a Prometheus, and none was found ({REMEDY})")]
struct NoPrometheus;

/// An Envoy, and the services that it calls, each at a path of its name.
pub(super) struct Caller {
    pub(super) name: String,
    services: Vec<(String, Arc<Service>)>,
    config: String,
    listener: SocketAddr,
    envoy: Serving,
    /// Its admin interface's port, which stays its own while it is restarted.
    _held: ReservedPort,
}

impl Caller {
    /// Starts an Envoy that calls services of these names.
    pub(super) async fn start(bench: &CheckContext, name: &str, to: &[&str]) -> anyhow::Result<Self> {
        let held = ReservedPort::new((Ipv4Addr::LOCALHOST, 0).into())?;
        let any = Place::new("127.0.0.1", 0);
        let (mut services, mut clusters, mut routes) = (Vec::new(), Vec::new(), Vec::new());
        for service in to {
            let (started, address) = self::service(bench, service).await?;
            services.push(((*service).to_owned(), started));
            clusters.push(topology::cluster(service, &address.into()));
            routes.push((format!("/{service}"), *service));
        }
        let routes: Vec<_> = routes.iter().map(|(path, service)| (path.as_str(), *service, 0)).collect();
        let config: Value = json!({
            "node": { "id": name, "cluster": "lab" },
            "admin": { "address": topology::address(&held.address().into()) },
            "stats_flush_interval": "0.1s",
            "static_resources": { "listeners": [topology::listener("out", &any, &routes)], "clusters": clusters },
        });
        let config = config.to_string();
        let (envoy, listener) = run(bench, &config).await?;
        Ok(Self { name: name.to_owned(), services, config, listener, envoy, _held: held })
    }

    /// Kills the Envoy, and starts it again: its counters begin at 0.
    pub(super) async fn restarted(self, bench: &CheckContext) -> anyhow::Result<Self> {
        self.envoy.kill().await;
        let (envoy, listener) = run(bench, &self.config).await?;
        Ok(Self { envoy, listener, ..self })
    }

    /// From now on this service misbehaves for this caller.
    pub(super) fn misbehaves(&self, service: &str, fault: Fault) {
        self.services
            .iter()
            .filter(|(name, _)| name == service)
            .for_each(|(_, service)| service.misbehave(fault));
    }

    /// Calls of a service: so many a second.
    pub(super) fn calls(&self, service: &str, rate: u32) -> anyhow::Result<load::Plan> {
        let uri = format!("http://{}/{service}", self.listener).parse()?;
        Ok(load::Plan { uri, rate, duration: FILLS })
    }
}

/// Starts an Envoy, and says where it listens.
async fn run(bench: &CheckContext, config: &str) -> anyhow::Result<(Serving, SocketAddr)> {
    let program = bench.envoy_program().await?;
    let envoy = Envoy::new(&program, config).start(&bench.life).await?.ready(READY).await?;
    let listener = envoy.admin().listeners().await?.into_iter().next().context("an Envoy of ours listens")?;
    Ok((envoy, listener.address))
}

/// Starts a service of this name.
pub(super) async fn service(bench: &CheckContext, name: &str) -> anyhow::Result<(Arc<Service>, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for a service")?;
    let address = listener.local_addr()?;
    Ok((Service::start(name, [], listener, &bench.life)?, address))
}

/// Sends all of these at the same time, each for so long; returns when their last requests were due.
pub(super) async fn send(plans: Vec<load::Plan>, duration: Duration) -> SystemTime {
    let until = SystemTime::now() + duration;
    let mut all = JoinSet::new();
    for plan in plans {
        all.spawn(async move { load::Plan { duration, ..plan }.run(|| ()).await });
    }
    all.join_all().await;
    until
}

/// What a Prometheus has of a world that is over: who has it, and when it ended.
type Recording = Arc<OnceCell<(Prometheus, SystemTime)>>;

/// The recordings of this process, by the names of their worlds. Each leaves with its session.
static RECORDINGS: Mutex<BTreeMap<String, Recording>> = Mutex::const_new(BTreeMap::new());

/// Whom to ask about a world of these names, and about which moment of it. It is brought about once: whoever watches
/// a file, or tries many solutions, asks the same Prometheus again.
pub(super) async fn recorded(
    bench: &CheckContext,
    names: &[String],
    make: impl AsyncFnOnce() -> anyhow::Result<(Prometheus, SystemTime)>,
) -> anyhow::Result<(Api, SystemTime)> {
    let key = names.join(" ");
    let recording = Arc::clone(RECORDINGS.lock().await.entry(key.clone()).or_default());
    let make = async || {
        let made = make().await?;
        let over = bench.session.token();
        // What is static is never dropped, and with a Prometheus goes the folder of its data.
        bench.session.spawn(async move {
            over.cancelled().await;
            RECORDINGS.lock().await.remove(&key);
        });
        anyhow::Ok(made)
    };
    let (prometheus, until) = recording.get_or_try_init(make).await?;
    Ok((prometheus.api().clone(), *until))
}

/// Starts a Prometheus in this scope that is to scrape these Envoys. It does so five seconds later: how often targets
/// may change is not for us to say.
pub(super) async fn watch(life: &Lifecycle, callers: &[&Caller], rules: &str) -> anyhow::Result<Prometheus> {
    let choice = std::env::var_os("PROMETHEUS").map(PathBuf::from);
    let program = prometheus::find(choice.as_deref()).await.map_err(SetupError::new)?;
    let program = program.ok_or_else(|| SetupError::new(NoPrometheus))?;
    let target = |caller: &&Caller| Target {
        job: "envoy",
        instance: caller.name.clone(),
        address: caller.envoy.admin().address(),
    };
    let targets: Vec<_> = callers.iter().map(target).collect();
    let held = ReservedPort::new((Ipv4Addr::LOCALHOST, 0).into())?;
    let watch = Watch { targets: &targets, rules, every: EVERY };
    Ok(Prometheus::start(&program, held.address(), &watch, life).await?)
}

/// Waits until all of them were scraped once more.
pub(super) async fn catch_up(prometheus: &Prometheus, callers: usize) -> anyhow::Result<()> {
    Ok(prometheus.api().catch_up(callers).await?)
}

/// What a student's expression gives at this moment.
pub(super) async fn ask(
    file: &str,
    expression: &str,
    prometheus: &Api,
    at: SystemTime,
) -> anyhow::Result<Vec<Series>> {
    let (seen, advice) = match prometheus.instant(expression, at).await {
        Ok(series) if series.iter().all(|one| one.points.len() <= 1) => return Ok(series),
        Ok(_) => (
            format!("{file} gives a list of samples for each series, and not one number"),
            "A window such as [2s] is for a function over it: rate(…[2s]).",
        ),
        Err(PrometheusError::Refused { why, .. }) => {
            let advice = if why.contains("parse error") {
                "The two numbers in what it says are a line and a column."
            } else {
                "Try it in parts, from the inside out."
            };
            (format!("Prometheus refuses {file}: {why}"), advice)
        }
        Err(PrometheusError::NoAnswer(ClientError::Timeout { limit, .. })) => (
            format!("Prometheus did not come to an end with {file} within {limit:?}"),
            "What makes so many points? A subquery, [a:b], has one each b.",
        ),
        Err(other) => return Err(other.into()),
    };
    Err(Requirement::unmet(format!("Prometheus understands {file}"), "an expression", seen, advice).into())
}

/// The labels of a series that tell it from others, for people.
pub(super) fn named(series: &Series) -> String {
    let labels = series.labels.iter().filter(|(label, _)| *label != "__name__" && *label != "job");
    let labels: Vec<_> = labels.map(|(label, value)| format!("{label}={value}")).collect();
    if labels.is_empty() { "one without labels".to_owned() } else { labels.join(" ") }
}

/// A few series in words.
pub(super) fn listed(series: &[Series]) -> String {
    const FEW: usize = 4;
    let mut names: Vec<_> = series.iter().take(FEW).map(|one| format!("[{}]", named(one))).collect();
    if series.len() > FEW {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// The value of a series.
pub(super) fn value(series: &Series) -> f64 {
    series.points.last().map_or(f64::NAN, |(_, value)| *value)
}
