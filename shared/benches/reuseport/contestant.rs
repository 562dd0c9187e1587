//! The servers that are measured, each as two processes of their own.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use shared::child::{self, Child};
use shared::cpu;
use shared::poll::wait_until;
use shared::ports::ReservedPort;
use shared::reuseport::{self, Sharing};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

/// A server in Go.
const GO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/reuseport/go/main.go");

const OFTEN: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(20);

/// A server that serves.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// The processes that were started; nginx's workers are children of its one.
    processes: Vec<Child>,
    _folder: Option<TempDir>,
}

impl Contestant {
    pub(crate) async fn ours() -> anyhow::Result<Self> {
        let program = env!("CARGO_BIN_EXE_reuseport");
        let port = free_port()?;
        let mut processes = Vec::new();
        for instance in ["foo", "bar"] {
            let mut command = Command::new(program);
            command
                .args(["serve", "--instance", instance, "--port", &port.to_string()])
                .stdout(Stdio::null());
            processes.push(child::spawn(command).await?);
        }
        Self::serving("reuseport", port, processes, None).await
    }

    pub(crate) async fn bare_hyper() -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut processes = Vec::new();
        for _ in 0..2 {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--bare", &port.to_string()]);
            processes.push(child::spawn(command).await?);
        }
        Self::serving("bare hyper", port, processes, None).await
    }

    /// `None` if it is not installed.
    pub(crate) async fn nginx() -> anyhow::Result<Option<Self>> {
        // Debian's place for it is not in every user's PATH.
        let places = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
        let Some(program) = places.into_iter().find(|place| Path::new(place).exists()) else {
            return Ok(None);
        };
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let at = folder.path().display();
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let config = format!(
            "{user} worker_processes 2; daemon off; pid {at}/pid; error_log {at}/error.log crit;
             events {{ worker_connections 512; }}
             http {{
               access_log off; keepalive_requests 100000000;
               client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;
               uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
               server {{
                 listen 127.0.0.1:{port} reuseport;
                 location / {{ default_type 'text/plain; charset=utf-8'; return 200 'Hello from nginx\\n'; }}
               }}
             }}"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = Command::new(program);
        command
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(file);
        let processes = vec![child::spawn(command).await?];
        Ok(Some(Self::serving("nginx", port, processes, Some(folder)).await?))
    }

    /// Built here; `None` if there is no Go.
    pub(crate) async fn go() -> anyhow::Result<Option<Self>> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let program = folder.path().join("hello");
        let mut build = Command::new("go");
        // A single file of the standard library alone: no module, and nothing to fetch.
        build.arg("build").arg("-o").arg(&program).arg(GO).env("GO111MODULE", "off");
        build.env("GOCACHE", folder.path().join("cache"));
        match build.status().await {
            Ok(built) => anyhow::ensure!(built.success(), "go build: {built}"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("go"),
        }
        let mut processes = Vec::new();
        for _ in 0..2 {
            let mut command = Command::new(&program);
            command.arg(port.to_string());
            processes.push(child::spawn(command).await?);
        }
        Ok(Some(Self::serving("Go net/http", port, processes, Some(folder)).await?))
    }

    async fn serving(
        name: &'static str,
        port: u16,
        processes: Vec<Child>,
        folder: Option<TempDir>,
    ) -> anyhow::Result<Self> {
        let contestant =
            Self { name, address: (Ipv4Addr::LOCALHOST, port).into(), processes, _folder: folder };
        let ready = || {
            // Both, or the first to come would have it all.
            let listeners = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
            let ours = format!("0100007F:{port:04X} 00000000:0000 0A");
            let count = listeners.lines().filter(|line| line.contains(&ours)).count();
            std::future::ready(if count == 2 { Ok(()) } else { Err(format!("{count} listeners")) })
        };
        wait_until(name, OFTEN, LIMIT, ready).await?;
        Ok(contestant)
    }

    /// All of its processes.
    fn pids(&self) -> Vec<u32> {
        let started = self.processes.iter().filter_map(Child::pid);
        let children = |pid: u32| {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        };
        started.flat_map(|pid| std::iter::once(pid).chain(children(pid))).collect()
    }

    /// CPU time so far of all of its processes, as the scheduler counts it: in nanoseconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let used = self.pids().into_iter().map(|pid| cpu::cpu_time(pid).context("a server has no CPU time"));
        used.sum()
    }

    /// The memory of its largest process.
    pub(crate) fn rss_kb(&self) -> Option<u64> {
        let of = |pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse().ok()
        };
        self.pids().into_iter().filter_map(of).max()
    }
}

/// A port that nobody had a moment ago. Not held: nginx sets no SO_REUSEADDR that would let it past us.
fn free_port() -> anyhow::Result<u16> {
    Ok(ReservedPort::new((Ipv4Addr::LOCALHOST, 0).into())?.address().port())
}

/// The size of our program in MB: stripped, and as it is.
pub(crate) fn size_of_ours() -> anyhow::Result<(f64, f64)> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_reuseport"));
    let stripped = tempfile::NamedTempFile::new()?;
    let strip = std::process::Command::new("strip").arg("-o").arg(stripped.path()).arg(&program).status();
    if !strip.is_ok_and(|status| status.success()) {
        bail!("no strip: it is in binutils");
    }
    let size = |path: &Path| Ok::<_, anyhow::Error>(path.metadata()?.len() as f64 / 1e6);
    Ok((size(stripped.path())?, size(&program)?))
}

/// The least that answers with hyper, until its parent ends it.
pub(crate) async fn bare(port: u16) -> anyhow::Result<()> {
    let listener = reuseport::listen((Ipv4Addr::LOCALHOST, port).into(), Sharing::Shared)?;
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::spawn(answer(connection));
    }
}

async fn answer(connection: TcpStream) {
    let service = service_fn(async |_| {
        let mut answer = Response::new(Full::new(Bytes::from_static(b"Hello from hyper\n")));
        // As the others send it: what is compared is the server, and not the answer.
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        Ok::<_, Infallible>(answer)
    });
    _ = connection.set_nodelay(true);
    // A client that goes away is no error.
    _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
}
