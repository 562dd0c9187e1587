//! A server dies while connections wait in its queue: what becomes of them?
//!
//! ```text
//!   early connections ──accepted──> foo, bar          bar is suspended: it accepts nothing
//!   100 more ──> foo's queue ──accepted, answered──> foo
//!           └──> bar's queue ── ... bar is killed ──> lost, or moved to foo's queue
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shared::child;
use shared::lifecycle::Lifecycle;
use shared::poll::wait_until;
use shared::report::line_out;
use shared::reuseport::{Connection, request_instance};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::instance::Instance;
use crate::kernel;

/// Connections that are accepted before anything happens: all of them fall to foo once in 65,536 runs.
const EARLY: u64 = 16;

/// Connections that come while bar accepts nothing.
const LATE: u64 = 100;

const OFTEN: Duration = Duration::from_millis(5);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// What became of them.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Early ones that got no response: bar had accepted them.
    pub(crate) early_lost: u64,
    /// How many late ones were in bar's queue when it was killed, by the kernel's word.
    pub(crate) queued: u64,
    /// Late ones that got a response.
    pub(crate) answered: u64,
    /// Late ones that got none.
    pub(crate) lost: u64,
}

/// Runs the experiment.
pub(crate) async fn run(life: &Lifecycle) -> anyhow::Result<Outcome> {
    let stays = Instance::start("foo", (Ipv4Addr::LOCALHOST, 0).into(), life).await?;
    let (address, port) = (stays.address, stays.address.port());
    let dies = Instance::start("bar", address, life).await?;

    let mut early = Vec::new();
    for _ in 0..EARLY {
        early.push(Connection::open(address).await?);
    }
    wait_until("all to be accepted", OFTEN, RESPONSE_TIMEOUT, async || match kernel::queued(port) {
        Ok(0) => Ok(()),
        Ok(more) => Err(format!("{more} in queues")),
        Err(error) => Err(error.to_string()),
    })
    .await?;

    dies.suspend()?;
    wait_until("bar to be suspended", OFTEN, RESPONSE_TIMEOUT, async || {
        match kernel::is_suspended(dies.pid()) {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;

    let mut outcome = Outcome::default();
    let mut late = JoinSet::new();
    for _ in 0..LATE {
        late.spawn(request_instance(address));
    }
    // Until each of them either has its answer or is in bar's queue.
    let settled = async {
        loop {
            while let Some(response) = late.try_join_next() {
                response??;
                outcome.answered += 1;
            }
            outcome.queued = kernel::queued(port)?;
            if outcome.answered + outcome.queued == LATE {
                return anyhow::Ok(());
            }
            tokio::time::sleep(OFTEN).await;
        }
    };
    tokio::time::timeout(RESPONSE_TIMEOUT, settled)
        .await
        .context("connections that are neither answered nor queued")??;

    dies.kill().await;
    while let Some(response) = late.join_next().await {
        match response? {
            Ok(_) => outcome.answered += 1,
            Err(_) => outcome.lost += 1,
        }
    }
    for mut connection in early {
        outcome.early_lost += u64::from(connection.request_instance().await.is_err());
    }
    Ok(outcome)
}

/// Runs it, and prints it for whoever started us.
pub(crate) async fn print(life: &Lifecycle) -> anyhow::Result<()> {
    line_out(&serde_json::to_string(&run(life).await?)?);
    Ok(())
}

/// What makes the kernel move connections, in a network of our own so that this machine's setting is not touched.
const MIGRATING: &str = "ip link set lo up && echo 1 >/proc/sys/net/ipv4/tcp_migrate_req && exec \"$@\"";

/// Runs it where `net.ipv4.tcp_migrate_req` is set. The inner error says why it cannot be here.
pub(crate) async fn run_migrating() -> anyhow::Result<Result<Outcome, String>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Err("needs root, for a network of its own with net.ipv4.tcp_migrate_req set".to_owned()));
    }
    let inside = |program: &std::ffi::OsStr, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", MIGRATING, "sh"]).arg(program).args(arguments);
        command
    };
    let tried = match child::output(inside("true".as_ref(), &[]), RESPONSE_TIMEOUT).await {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(why) = tried {
        return Ok(Err(format!("no network of its own, or a kernel before 5.14: {why}")));
    }
    let this = std::env::current_exe()?;
    let output = child::output(inside(this.as_os_str(), &["queue"]), 2 * RESPONSE_TIMEOUT).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "the experiment in a network of its own: {said}");
    Ok(Ok(serde_json::from_slice(&output.stdout)?))
}
