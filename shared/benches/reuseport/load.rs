//! The load: wrk where it is installed, else a client of our own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use shared::child;
use shared::reuseport::Connection;
use tokio::process::Command;
use tokio::task::JoinSet;

/// What a turn's load came to.
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) took: Duration,
}

const WRK: &str = "/usr/bin/wrk";

/// Who makes the load.
pub(crate) fn name() -> &'static str {
    if Path::new(WRK).exists() { "wrk" } else { "a client of our own" }
}

/// Asks on so many connections, one request at a time on each, for so long.
pub(crate) async fn run(address: SocketAddr, connections: u32, turn: Duration) -> anyhow::Result<Load> {
    if Path::new(WRK).exists() {
        wrk(address, connections, turn).await
    } else {
        own(address, connections, turn).await
    }
}

async fn wrk(address: SocketAddr, connections: u32, turn: Duration) -> anyhow::Result<Load> {
    let mut command = Command::new(WRK);
    command.args(["-t", "1", "-c", &connections.to_string(), "-d", &format!("{}s", turn.as_secs())]);
    command.arg(format!("http://{address}/"));
    let output = child::output(command, turn + Duration::from_secs(30)).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "wrk: {said}");
    // "  12345 requests in 2.00s, 1.2MB read"
    let line = said.lines().find(|line| line.contains(" requests in ")).context("wrk counted nothing")?;
    let (requests, rest) = line.trim().split_once(" requests in ").context("wrk counted nothing")?;
    let seconds = rest.split('s').next().unwrap_or_default().parse()?;
    // It speaks of errors only if there were some.
    let failed =
        said.lines().filter(|line| line.contains("Socket errors") || line.contains("Non-2xx")).count();
    Ok(Load { requests: requests.parse()?, failed: failed as u64, took: Duration::from_secs_f64(seconds) })
}

async fn own(address: SocketAddr, connections: u32, turn: Duration) -> anyhow::Result<Load> {
    let (began, mut clients) = (Instant::now(), JoinSet::new());
    for _ in 0..connections {
        clients.spawn(async move {
            let (mut answered, mut failed) = (0, 0);
            let Ok(mut connection) = Connection::open(address).await else { return (0, 1) };
            while began.elapsed() < turn {
                match connection.request_instance().await {
                    Ok(_) => answered += 1,
                    Err(_) => {
                        failed += 1;
                        break;
                    }
                }
            }
            (answered, failed)
        });
    }
    let (mut requests, mut failed) = (0, 0);
    while let Some(counts) = clients.join_next().await {
        let counts = counts?;
        requests += counts.0;
        failed += counts.1;
    }
    Ok(Load { requests, failed, took: began.elapsed() })
}
