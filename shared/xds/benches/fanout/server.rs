//! The server that is measured: found or built, started as a process of its own, asked over HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;

pub(crate) const ROUTES: u32 = 10;

/// How long the server may take to start, or to answer.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
pub(crate) struct Topology {
    pub(crate) clusters: u32,
    pub(crate) endpoints: u32,
    /// Whether to measure a `ControlPlane`, with event log and metrics, instead of the bare server.
    pub(crate) control_plane: bool,
}

/// Every stream is a file.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it is refused, the connections beyond the limit say so.
    _ = setrlimit(Resource::Nofile, limit);
}

/// The server's program, brought up to date. Cargo does not build examples for a bench by itself.
pub(crate) fn find() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    // target/release/deps/fanout-… -> target/release
    let profile = this.parent().and_then(Path::parent).context("a bench lies in target/*/deps")?;
    let program = profile.join("examples").join("fanout_server");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "mesh-xds", "--example", "fanout_server"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    if let Some(target) = profile.parent() {
        build.arg("--target-dir").arg(target);
    }
    let built = build.status().is_ok_and(|status| status.success());
    if !built || !program.exists() {
        bail!(
            "no server at {}: `cargo build --release -p mesh-xds --example fanout_server` did not make it",
            program.display()
        );
    }
    Ok(program)
}

pub(crate) struct Server {
    child: Child,
    pub(crate) xds: SocketAddr,
    http: SocketAddr,
}

/// What the server counts.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Stats {
    pub(crate) rss_kb: u64,
    pub(crate) cpu_user_s: f64,
    pub(crate) cpu_system_s: f64,
    pub(crate) streams_open: u64,
}

impl Stats {
    pub(crate) fn cpu_s(&self) -> f64 {
        self.cpu_user_s + self.cpu_system_s
    }
}

#[derive(Deserialize)]
struct Bound {
    xds: SocketAddr,
    http: SocketAddr,
}

impl Server {
    /// Starts it on free ports of loopback.
    pub(crate) async fn start(program: &Path, topology: Topology) -> anyhow::Result<Self> {
        let number = |number: u32| number.to_string();
        let mut child = tokio::process::Command::new(program)
            .args(["--clusters", &number(topology.clusters), "--endpoints", &number(topology.endpoints)])
            .args(["--listeners", &number(ROUTES), "--routes", &number(ROUTES)])
            .args(topology.control_plane.then_some("--control-plane"))
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let line =
            tokio::time::timeout(LIMIT, lines.next_line()).await.context("the server says nothing")??;
        let Bound { xds, http } = serde_json::from_str(&line.context("the server ended at once")?)?;
        Ok(Self { child, xds, http })
    }

    /// Changes one assignment.
    pub(crate) async fn update(&self, cluster: u32, endpoints: u32) -> anyhow::Result<serde_json::Value> {
        self.ask("POST", &format!("/update?cluster={cluster}&endpoints={endpoints}")).await
    }

    pub(crate) async fn stats(&self) -> anyhow::Result<Stats> {
        self.ask("GET", "/stats").await
    }

    /// Its figures once it has nothing left to do.
    pub(crate) async fn settled(&self) -> anyhow::Result<Stats> {
        let mut before = self.stats().await?;
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.stats().await?;
            if now.cpu_s() - before.cpu_s() < 0.005 {
                return Ok(now);
            }
            before = now;
        }
        bail!("the server does not come to rest")
    }

    async fn ask<T: DeserializeOwned>(&self, method: &str, path: &str) -> anyhow::Result<T> {
        let asking = async {
            let socket = TokioIo::new(TcpStream::connect(self.http).await?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await?;
            tokio::spawn(connection);
            let request = http::Request::builder().method(method).uri(path).header("host", "fanout");
            let response = sender.send_request(request.body(Empty::<bytes::Bytes>::new())?).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
            Ok(serde_json::from_slice(&body)?)
        };
        tokio::time::timeout(LIMIT, asking).await.context("the server does not answer")?
    }

    /// Ends it as an operator would.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        rustix::process::kill_process(pid.context("the server ended")?, rustix::process::Signal::TERM)?;
        let status =
            tokio::time::timeout(LIMIT, self.child.wait()).await.context("the server does not end")??;
        anyhow::ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}
