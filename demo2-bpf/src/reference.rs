//! The second witness: Envoy's own counters, and `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use shared::envoy::admin::Bucket;
use shared::envoy::{Admin, AdminError};
use shared::poll;

use crate::facts::{ContextSwitches, EnvoyCounters, EnvoyTimes};

/// How long Envoy may take to merge what its workers noted: four times what it takes unless told otherwise.
const MERGE_TIMEOUT: Duration = Duration::from_secs(20);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What Envoy has counted until now. The admin interface's own traffic is left out.
///
/// # Errors
/// [`AdminError`] if Envoy cannot be asked.
pub async fn envoy_counters(admin: &Admin) -> Result<EnvoyCounters, AdminError> {
    Ok(sum_counters(&admin.stats("downstream_cx|downstream_rq_total|upstream_cx").await?))
}

/// Sums Envoy's statistics over its connection managers, its clusters, and its listeners' workers.
pub fn sum_counters(stats: &BTreeMap<String, u64>) -> EnvoyCounters {
    let sum = |start: &str, end: &str| -> u64 {
        let ours = |name: &str| {
            name.starts_with(start) && name.ends_with(end) && !name.starts_with("http.admin.")
                // The one thing below a connection manager that counts the same again. Dots do not tell: names of
                // clusters have them too, as `my.service.local`.
                && !name.contains(".user_agent.")
        };
        stats.iter().filter(|(name, _)| ours(name)).map(|(_, value)| value).sum()
    };
    let by_worker = stats.iter().filter_map(|(name, value)| {
        let (listener, rest) = name.rsplit_once(".worker_")?;
        let worker = rest.strip_suffix(".downstream_cx_total")?.parse().ok()?;
        (listener.starts_with("listener.") && listener != "listener.admin").then_some((worker, *value))
    });
    let mut workers: BTreeMap<u32, u64> = BTreeMap::new();
    for (worker, value) in by_worker {
        *workers.entry(worker).or_default() += value;
    }
    EnvoyCounters {
        downstream_connections: sum("http.", ".downstream_cx_total"),
        downstream_ended: sum("http.", ".downstream_cx_destroy"),
        downstream_requests: sum("http.", ".downstream_rq_total"),
        downstream_in: sum("http.", ".downstream_cx_rx_bytes_total"),
        downstream_out: sum("http.", ".downstream_cx_tx_bytes_total"),
        upstream_connections: sum("cluster.", ".upstream_cx_total"),
        upstream_in: sum("cluster.", ".upstream_cx_rx_bytes_total"),
        upstream_out: sum("cluster.", ".upstream_cx_tx_bytes_total"),
        by_worker: workers,
    }
}

/// Waits until Envoy has merged what its workers had noted before this call; they note histograms by themselves. It tells
/// by its uptime, which is set after each merge. The first that is seen may have begun before the call.
async fn wait_for_merge(admin: &Admin) -> Option<()> {
    let uptime = || async { admin.stats("^server.uptime$").await.ok()?.get("server.uptime").copied() };
    for _ in 0..2 {
        let seen = uptime().await?;
        let again =
            poll::wait_until("Envoy to merge its histograms", POLL_INTERVAL, MERGE_TIMEOUT, || async {
                uptime().await.filter(|now| *now != seen).ok_or("not again")
            });
        again.await.ok()?;
    }
    Some(())
}

/// What Envoy has timed until now; `None` if it does not tell.
pub async fn envoy_times(admin: &Admin) -> Option<EnvoyTimes> {
    wait_for_merge(admin).await?;
    Some(sum_times(&admin.histograms("(downstream|upstream)_rq_time$").await.ok()?))
}

/// Sums Envoy's histograms of times, which are in milliseconds, as [`sum_counters`] sums its counters.
fn sum_times(histograms: &BTreeMap<String, Vec<Bucket>>) -> EnvoyTimes {
    let buckets = |start: &'static str, end: &'static str| {
        let ours = move |name: &&String| {
            // Clusters have the same once more for internal and external requests.
            let twice = [".internal.", ".external.", ".canary.", "http.admin."];
            name.starts_with(start) && name.ends_with(end) && !twice.iter().any(|it| name.contains(it))
        };
        histograms.iter().filter(move |(name, _)| ours(name)).flat_map(|(_, buckets)| buckets)
    };
    let requests = || buckets("http.", ".downstream_rq_time");
    let calls = || buckets("cluster.", ".upstream_rq_time");
    // Whole numbers, as milliseconds are cut off; more than one is in a bar only if the bar is wider.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds, and no negative ones"
    )]
    let whole = |ms: f64| ms.round() as u64;
    EnvoyTimes {
        requests: requests().map(|bucket| bucket.count).sum(),
        requests_min_ms: requests().map(|bucket| whole(bucket.lower_bound) * bucket.count).sum(),
        calls: calls().map(|bucket| bucket.count).sum(),
        calls_max_ms: calls().map(|it| whole(it.lower_bound + it.width.max(1.0)) * it.count).sum(),
    }
}

/// How often the workers' loops have turned, by Envoy, as of when it last merged; `None` if it does not count.
pub async fn loop_iterations(admin: &Admin) -> Option<u64> {
    let histograms = admin.histograms("worker_[0-9]+\\.dispatcher\\.loop_duration_us$").await.ok()?;
    let turns = histograms.values().flatten().map(|bucket| bucket.count).sum();
    (turns > 0).then_some(turns)
}

/// The same as of some moment after this call.
pub async fn merged_loop_iterations(admin: &Admin) -> Option<u64> {
    loop_iterations(admin).await?;
    wait_for_merge(admin).await?;
    loop_iterations(admin).await
}

/// Envoy's version as it tells it: `1.40.0`.
///
/// # Errors
/// [`AdminError`] if Envoy cannot be asked.
pub async fn envoy_version(admin: &Admin) -> Result<String, AdminError> {
    let dump = admin.config_dump().await?;
    let mut parts = dump["configs"].as_array().into_iter().flatten();
    let build = "/bootstrap/node/user_agent_build_version/version";
    let Some(version) = parts.find_map(|part| part.pointer(build)) else {
        return Ok("of unknown version".to_owned());
    };
    // A zero is left out.
    let number = |name: &str| version[name].as_u64().unwrap_or(0);
    Ok(format!("{}.{}.{}", number("major_number"), number("minor_number"), number("patch")))
}

/// Connections from clients that are open now.
///
/// # Errors
/// [`AdminError`] if Envoy cannot be asked.
pub async fn open_connections(admin: &Admin) -> Result<u64, AdminError> {
    let stats = admin.stats("^http\\..*\\.downstream_cx_active$").await?;
    Ok(stats.iter().filter(|(name, _)| !name.starts_with("http.admin.")).map(|(_, value)| value).sum())
}

/// Envoy's worker threads: thread, number. They are called `wrk:worker_0` and so on.
pub fn worker_threads(pid: u32) -> BTreeMap<u32, u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let worker = |tid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
        name.trim().strip_prefix("wrk:worker_")?.parse().ok()
    };
    let tids = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    tids.filter_map(|tid| Some((tid, worker(tid)?))).collect()
}

/// The process with Envoy's worker threads: this one, or one below it, as where a script starts Envoy.
pub fn find_envoy_process(pid: u32) -> Option<u32> {
    let processes = || fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes().filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let children: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut below = vec![pid];
    let mut at = 0;
    // Each is looked at once, also where numbers were given anew meanwhile and parents go round in a circle.
    while let Some(one) = below.get(at).copied() {
        if !worker_threads(one).is_empty() {
            return Some(one);
        }
        let new = children.iter().filter(|(child, parent)| *parent == one && !below.contains(child));
        below.extend(new.map(|(child, _)| *child).collect::<Vec<_>>());
        at += 1;
    }
    None
}

/// A process's parent.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// How often each of these threads gave up a core by itself, and had it taken away.
pub fn context_switches(pid: u32, threads: impl IntoIterator<Item = u32>) -> ContextSwitches {
    let counts = |tid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
        let number =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        Some((number("voluntary_ctxt_switches:")?, number("nonvoluntary_ctxt_switches:")?))
    };
    threads.into_iter().filter_map(|tid| Some((tid, counts(tid)?))).collect()
}

/// How many of them came after `before`.
pub fn context_switches_since(now: ContextSwitches, before: &ContextSwitches) -> ContextSwitches {
    let since = |(tid, now): (u32, (u64, u64))| {
        let then = before.get(&tid).copied().unwrap_or_default();
        (tid, (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1)))
    };
    now.into_iter().map(since).collect()
}

/// The number of the network (its namespace) that a process lives in; the programs tell networks apart by it.
///
/// # Errors
/// If the process is gone, or is another user's.
pub fn network_namespace(pid: u32) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{pid}/ns/net"))?.ino())
}

/// How many segments were sent again, as the kernel counts for the network that a process lives in.
pub fn retransmitted_segments(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/snmp")).ok()?;
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let column = tcp.next()?.split_whitespace().position(|name| name == "RetransSegs")?;
    tcp.next()?.split_whitespace().nth(column)?.parse().ok()
}

/// How many sockets listen on this port where that process lives (its network namespace).
pub fn listening_sockets(pid: u32, port: u16) -> u64 {
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let wanted = format!(":{port:04X}");
    let listens = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        // TCP_LISTEN is 0A.
        fields.next().is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some("0A")
    };
    tables.iter().flatten().map(|table| table.lines().filter(listens).count() as u64).sum()
}
