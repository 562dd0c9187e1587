//! A Prometheus of our own: found, configured, started, asked.
//!
//! ```text
//! find ──> Program ──start(targets)──> Prometheus ──instant, range──> numbers
//! ```
//!
//! Knows Prometheus' command line and its HTTP interface ("HTTP API" in its documentation), and nothing of the mesh.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use http::Uri;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::child::{self, Running};
use shared::lifecycle::Lifecycle;
use shared::poll;
use tempfile::TempDir;
use tokio::process::Command;

use crate::client::{Client, ClientError};

/// The alert rules.
pub const ALERTS: &str = include_str!("../prometheus/alerts.yaml");

/// How often everything is scraped, and rules are evaluated. For a story of half a minute; in earnest 15 s or more.
pub const EVERY: Duration = Duration::from_millis(250);

/// What to do where there is none.
pub const REMEDY: &str = "apt-get install prometheus, brew install prometheus, or unpack a release from \
                          prometheus.io into .tools/; --prometheus PATH or $PROMETHEUS names one";

const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(20);

/// A Prometheus on this machine.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
}

/// Why there is no Prometheus to ask, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// What was chosen does not run.
    #[error("{} is no Prometheus that runs here: {REMEDY}", .0.display())]
    Unusable(PathBuf),
    /// There is no folder for its data.
    #[error("no temporary folder for Prometheus' data: is $TMPDIR writable?")]
    Folder(#[source] io::Error),
    /// The system could not start it.
    #[error("cannot start {}", path.display())]
    NotStarted {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended, or was not ready in time.
    #[error("Prometheus is not ready ({why}); its log ends with:\n{log}")]
    NotReady {
        /// What was seen last.
        why: String,
        /// The last lines of its log.
        log: String,
    },
    /// It cannot be asked.
    #[error(transparent)]
    NoAnswer(#[from] ClientError),
    /// It refused the question.
    #[error("Prometheus refused `{query}`: {why}")]
    Refused {
        /// The PromQL.
        query: String,
        /// Its words.
        why: String,
    },
}

/// The chosen Prometheus, or the first one that there is; `None` if there is none.
///
/// # Errors
/// If the chosen one does not run: another is not taken instead.
pub async fn find(choice: Option<&Path>) -> Result<Option<Program>, PrometheusError> {
    if let Some(path) = choice {
        let found = look_at(path).await.ok_or_else(|| PrometheusError::Unusable(path.to_owned()))?;
        return Ok(Some(found));
    }
    let mut places = vec![PathBuf::from("prometheus")];
    let cached = std::fs::read_dir(".tools").into_iter().flatten().flatten();
    places.extend(cached.map(|entry| entry.path().join("prometheus")));
    for place in places {
        if let Some(found) = look_at(&place).await {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

async fn look_at(path: &Path) -> Option<Program> {
    let mut command = Command::new(path);
    command.arg("--version");
    let output = child::output(command, ANSWER).await.ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let version = said.strip_prefix("prometheus, version ")?.split_whitespace().next()?;
    Some(Program { path: path.to_owned(), version: version.to_owned() })
}

/// Something to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its job: `envoy`, `service`.
    pub job: &'static str,
    /// Its name.
    pub instance: &'static str,
    /// Where it is.
    pub address: SocketAddr,
}

impl Target {
    /// The path of its page.
    pub fn path(&self) -> &'static str {
        if self.job == "envoy" { "/stats/prometheus" } else { "/metrics" }
    }
}

/// The configuration: JSON, which is YAML too.
fn config(targets: &[Target]) -> String {
    let mut jobs: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for target in targets {
        let one =
            json!({ "targets": [target.address.to_string()], "labels": { "instance": target.instance } });
        jobs.entry(target.job).or_default().push(one);
    }
    let path = |job: &str| targets.iter().find(|target| target.job == job).map(Target::path);
    let jobs: Vec<Value> = jobs
        .iter()
        .map(
            |(job, targets)| json!({ "job_name": job, "metrics_path": path(job), "static_configs": targets }),
        )
        .collect();
    let every = format!("{}ms", EVERY.as_millis());
    json!({
        "global": { "scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every },
        "rule_files": ["alerts.yaml"],
        "scrape_configs": jobs,
    })
    .to_string()
}

/// A running Prometheus. Dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    running: Running,
    folder: Arc<TempDir>,
    client: Client,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Prometheus {
    /// Starts it at this address, with these targets and our alert rules, and waits until it takes questions.
    ///
    /// # Errors
    /// [`PrometheusError`]; nothing is left running.
    pub async fn start(
        program: &Program,
        at: SocketAddr,
        targets: &[Target],
        life: &Lifecycle,
    ) -> Result<Self, PrometheusError> {
        let folder =
            tempfile::Builder::new().prefix("prometheus-").tempdir().map_err(PrometheusError::Folder)?;
        let folder = Arc::new(folder);
        let file = |name: &str| folder.path().join(name);
        let write =
            |name: &str, text: &str| std::fs::write(file(name), text).map_err(PrometheusError::Folder);
        write("prometheus.yaml", &config(targets))?;
        write("alerts.yaml", ALERTS)?;
        let log = std::fs::File::create(file("log")).map_err(PrometheusError::Folder)?;
        let mut command = Command::new(&program.path);
        command
            .arg("--config.file")
            .arg(file("prometheus.yaml"))
            .arg("--storage.tsdb.path")
            .arg(file("data"))
            .args(["--web.listen-address", &at.to_string(), "--log.level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let running = Running::start(command, life, Arc::clone(&folder)).await;
        let running =
            running.map_err(|source| PrometheusError::NotStarted { path: program.path.clone(), source })?;
        let prometheus = Self { address: at, running, folder, client: Client::new(ANSWER) };
        let ready = poll::wait_until("Prometheus to be ready", LOOK, READY, || async {
            let answer = prometheus.client.get(prometheus.uri("/-/ready")).await;
            let status = answer.map_err(|error| error.to_string())?.status();
            if status.is_success() { Ok(()) } else { Err(status.to_string()) }
        });
        let why = tokio::select! {
            ready = ready => match ready {
                Ok(()) => return Ok(prometheus),
                Err(error) => error.to_string(),
            },
            status = prometheus.running.exited() => {
                status.map_or_else(|| "it ended".to_owned(), |status| format!("it ended: {status}"))
            }
        };
        prometheus.running.kill().await;
        Err(PrometheusError::NotReady { why, log: prometheus.log_tail() })
    }

    /// Where its pages are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn uri(&self, path: &str) -> Uri {
        // An address and a path that is encoded are always one.
        format!("http://{}{path}", self.address).parse().unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// What a PromQL expression gives now.
    ///
    /// # Errors
    /// [`PrometheusError`] if it cannot be asked, or refuses the expression.
    pub async fn instant(&self, query: &str) -> Result<Vec<Series>, PrometheusError> {
        let found = self.ask(query, &format!("/api/v1/query?query={}", encode(query))).await?;
        let series = |one: One| Some(Series { labels: one.metric, value: one.value?.1.parse().ok()? });
        Ok(found.into_iter().filter_map(series).collect())
    }

    /// The only value of an expression; `None` if it gives no series, or "not a number".
    ///
    /// # Errors
    /// As [`instant`](Self::instant).
    pub async fn value(&self, query: &str) -> Result<Option<f64>, PrometheusError> {
        let series = self.instant(query).await?;
        Ok(series.first().map(|one| one.value).filter(|value| !value.is_nan()))
    }

    /// The first series of an expression from `since` until now: seconds since 1970, value.
    ///
    /// # Errors
    /// As [`instant`](Self::instant).
    pub async fn range(
        &self,
        query: &str,
        since: SystemTime,
        step: Duration,
    ) -> Result<Vec<(f64, f64)>, PrometheusError> {
        let path = format!(
            "/api/v1/query_range?query={}&start={}&end={}&step={}",
            encode(query),
            seconds(since),
            seconds(SystemTime::now()),
            step.as_secs_f64()
        );
        let found = self.ask(query, &path).await?;
        let values = found.into_iter().next().map(|one| one.values).unwrap_or_default();
        Ok(values.into_iter().filter_map(|(at, value)| Some((at, value.parse().ok()?))).collect())
    }

    async fn ask(&self, query: &str, path: &str) -> Result<Vec<One>, PrometheusError> {
        let answer = self.client.get(self.uri(path)).await?;
        let refused = |why: String| PrometheusError::Refused { query: query.to_owned(), why };
        let envelope: Envelope =
            serde_json::from_slice(answer.body()).map_err(|error| refused(error.to_string()))?;
        envelope.data.map(|data| data.result).ok_or_else(|| refused(envelope.error))
    }

    /// Waits until all that is up was scraped after this moment.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn catch_up(&self) -> anyhow::Result<()> {
        let now = seconds(SystemTime::now());
        let caught_up = poll::wait_until("Prometheus to scrape everybody", LOOK, READY, || async {
            let oldest = self.value("min(timestamp(up))").await.map_err(|error| error.to_string())?;
            match oldest {
                Some(at) if at > now => Ok(()),
                Some(at) => Err(format!("the oldest scrape is {:.1} s old", now - at)),
                None => Err("no scrape".to_owned()),
            }
        });
        caught_up.await.context("a target may hang")
    }
}

/// Seconds since 1970.
pub fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Percent-encodes all but letters and digits.
fn encode(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}
