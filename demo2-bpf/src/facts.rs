//! What is known about a run from others than bpftrace: the second witness.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One program's run, told by the client, by Envoy and by `/proc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The day, as YYYY-MM-DD.
    pub date: String,
    /// The kernel's release.
    pub kernel: String,
    /// bpftrace's version.
    pub bpftrace: String,
    /// Envoy's version, if it is known.
    pub envoy: String,
    /// Envoy's process.
    pub pid: u32,
    /// Whether Envoy was started while bpftrace watched.
    pub started_by_us: bool,
    /// Whether the client's connections end at Envoy itself, and not at a proxy for a published port.
    pub direct: bool,
    /// Its worker threads: thread, number.
    pub workers: BTreeMap<u32, u32>,
    /// Sockets that listen on its listener's port, by `/proc/PID/net/tcp`.
    pub listening_sockets: u64,
    /// What the client did.
    pub sent: Sent,
    /// What Envoy counted meanwhile, for certain while bpftrace watched.
    pub envoy_counters: EnvoyCounters,
    /// The same from before it was started until after it had ended.
    pub envoy_counters_outer: EnvoyCounters,
    /// What Envoy timed meanwhile, where that was asked for and it did.
    pub envoy_times: Option<EnvoyTimes>,
    /// Turns of its workers' loops by Envoy, at least and at most, where that was asked for and it counts them.
    pub loop_iterations: Option<(u64, u64)>,
    /// Segments that its network sent again, by `/proc/PID/net/snmp`, from before bpftrace was started until after
    /// it had ended.
    pub retransmitted: Option<u64>,
    /// Context switches by `/proc/PID/task/TID/status`, counted for certain while bpftrace watched.
    pub context_switches: ContextSwitches,
    /// The same from before it was started until after it had ended.
    pub context_switches_outer: ContextSwitches,
}

impl Facts {
    /// Why the client's numbers say nothing about what others counted, if so: it was not alone. An Envoy of ours is
    /// used by our client only, whatever it counts; so there the witnesses have to agree.
    pub fn other_traffic(&self) -> Option<String> {
        let (sent, counted) = (&self.sent, &self.envoy_counters_outer);
        let connections = sent.connections + sent.resets;
        // A request that was begun before its reset may have been counted.
        let requests = sent.requests..=sent.requests + sent.resets;
        let alone =
            counted.downstream_connections == connections && requests.contains(&counted.downstream_requests);
        (!self.started_by_us && !alone).then(|| {
            format!(
                "other traffic: Envoy counted {} connections with {} requests, we sent {connections} with {}",
                counted.downstream_connections, counted.downstream_requests, sent.requests
            )
        })
    }
}

/// How often threads gave up a core: thread, of its own will and not.
pub type ContextSwitches = BTreeMap<u32, (u64, u64)>;

/// What the client did, by its own notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Connections on which requests were sent and answered.
    pub connections: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes of requests.
    pub bytes_out: u64,
    /// Bytes of answers.
    pub bytes_in: u64,
    /// From the beginning of each request to the end of its answer, summed, in microseconds.
    pub micros: u64,
    /// What of that the backend is known to have waited at least, if it is ours.
    pub backend_micros: u64,
    /// More connections, which it tore down with a reset.
    pub resets: u64,
}

/// Requests that Envoy timed, in whole milliseconds: sums of what was cut off, and of one more for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvoyTimes {
    /// Requests of clients.
    pub requests: u64,
    /// They took at least this.
    pub requests_min_ms: u64,
    /// Requests to backends.
    pub calls: u64,
    /// They took less than this.
    pub calls_max_ms: u64,
}

impl EnvoyTimes {
    /// What was timed since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            requests_min_ms: self.requests_min_ms.saturating_sub(before.requests_min_ms),
            calls: self.calls.saturating_sub(before.calls),
            calls_max_ms: self.calls_max_ms.saturating_sub(before.calls_max_ms),
        }
    }
}

/// What Envoy counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvoyCounters {
    /// Connections from clients.
    pub downstream_connections: u64,
    /// Connections from clients that ended.
    pub downstream_ended: u64,
    /// Requests from clients.
    pub downstream_requests: u64,
    /// Bytes from clients.
    pub downstream_in: u64,
    /// Bytes to clients.
    pub downstream_out: u64,
    /// Connections to backends.
    pub upstream_connections: u64,
    /// Bytes from backends.
    pub upstream_in: u64,
    /// Bytes to backends.
    pub upstream_out: u64,
    /// Connections from clients, by worker.
    pub by_worker: BTreeMap<u32, u64>,
}

impl EnvoyCounters {
    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let by_worker = self.by_worker.iter().map(|(worker, now)| {
            (*worker, now.saturating_sub(before.by_worker.get(worker).copied().unwrap_or(0)))
        });
        Self {
            downstream_connections: self.downstream_connections.saturating_sub(before.downstream_connections),
            downstream_ended: self.downstream_ended.saturating_sub(before.downstream_ended),
            downstream_requests: self.downstream_requests.saturating_sub(before.downstream_requests),
            downstream_in: self.downstream_in.saturating_sub(before.downstream_in),
            downstream_out: self.downstream_out.saturating_sub(before.downstream_out),
            upstream_connections: self.upstream_connections.saturating_sub(before.upstream_connections),
            upstream_in: self.upstream_in.saturating_sub(before.upstream_in),
            upstream_out: self.upstream_out.saturating_sub(before.upstream_out),
            by_worker: by_worker.collect(),
        }
    }
}

/// A run that was kept: its facts, and bpftrace's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// The second witness.
    pub facts: Facts,
    /// bpftrace's own lines.
    pub lines: Vec<String>,
}

/// A file that is no recording.
#[derive(Debug, thiserror::Error)]
#[error("not a recording: its first line must be {{\"type\": \"facts\", ...}} ({0})")]
pub struct RecordingError(serde_json::Error);

#[derive(Serialize, Deserialize)]
struct First<F> {
    r#type: String,
    data: F,
}

impl Recording {
    /// Reads what [`to_lines`](Self::to_lines) wrote.
    ///
    /// # Errors
    /// [`RecordingError`] if the facts are missing or of another form.
    pub fn parse(text: &str) -> Result<Self, RecordingError> {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let first: First<Facts> = serde_json::from_str(first).map_err(RecordingError)?;
        let lines = rest.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
        Ok(Self { facts: first.data, lines: lines.collect() })
    }

    /// As text, a JSON object a line.
    ///
    /// # Errors
    /// Never for facts as they are.
    pub fn to_lines(&self) -> serde_json::Result<String> {
        let first = First { r#type: "facts".to_owned(), data: &self.facts };
        let mut text = serde_json::to_string(&first)? + "\n";
        for line in self.lines.iter().filter(|line| !line.trim().is_empty()) {
            text += line.trim_end();
            text.push('\n');
        }
        Ok(text)
    }
}
