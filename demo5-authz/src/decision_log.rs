//! What was decided, for people and auditors: one JSON object a line, and never a token.
//!
//! ```json
//! {"time":"2026-01-02T03:04:05.678901Z","request_id":"…","principal":"ana","action":"POST /…",
//!  "decision":"deny","reason":"no policy permits it","policies":[],"extensions":{},"latency_us":42}
//! ```
//!
//! A check never waits for the log: what the writer does not keep up with is dropped, and counted. Who needs every line
//! (an audit) has to wait for it instead, and to refuse when the disk is full; that is a choice to make, not a default.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use shared::lifecycle::Lifecycle;
use time::OffsetDateTime;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::check_input::CheckInput;
use crate::decision::Decision;
use crate::metrics::Metrics;
use crate::outcome::Outcome;

/// Lines that wait for the writer.
const QUEUE_CAPACITY: usize = 4096;

/// Lines that are written at once.
const BATCH: usize = 256;

/// One decision.
#[derive(Clone, Debug, Serialize)]
pub struct LogRecord {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    policies: Vec<String>,
    extensions: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
    latency_us: u64,
}

/// What was seen of the request's body.
#[derive(Clone, Copy, Debug, Serialize)]
struct Body {
    bytes: usize,
    partial: bool,
}

impl LogRecord {
    /// What is told of a decision. The headers of the request are not among it.
    pub fn new(
        now: SystemTime,
        request_id: Option<&str>,
        input: Option<&CheckInput<'_>>,
        outcome: Outcome,
        duration: Duration,
    ) -> Self {
        let extensions = input.map(|input| input.extensions.iter()).into_iter().flatten();
        let (decision, reason) = match &outcome.decision {
            Decision::Allow { .. } => ("allow", None),
            Decision::Deny { reason } => ("deny", Some(reason.to_string())),
        };
        Self {
            time: rfc3339(now),
            request_id: request_id.map(ToOwned::to_owned),
            principal: outcome.principal.map(|principal| principal.name().to_owned()),
            action: input.map(|input| format!("{} {}", input.method, input.path)),
            decision,
            reason,
            policies: outcome.policies,
            extensions: extensions.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: input.and_then(|input| input.body).map(|(bytes, partial)| Body { bytes, partial }),
            latency_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// Where decisions go. Clones write to the same place.
#[derive(Clone, Debug, Default)]
pub struct DecisionLog(Option<LogSender>);

#[derive(Clone, Debug)]
struct LogSender {
    lines: mpsc::Sender<LogRecord>,
    close: CancellationToken,
}

impl DecisionLog {
    /// Nowhere.
    pub fn disabled() -> Self {
        Self(None)
    }

    /// To `writer`, by a task of `life` that ends when the log is [closed](Self::close) and everything is written.
    pub fn to_writer(writer: impl AsyncWrite + Send + Unpin + 'static, life: &Lifecycle) -> Self {
        let (lines, queue) = mpsc::channel(QUEUE_CAPACITY);
        let close = CancellationToken::new();
        life.spawn(write_all(queue, writer, close.clone()));
        Self(Some(LogSender { lines, close }))
    }

    /// Whether anything is written.
    pub fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Writes a line, if the queue has room; else counts it as dropped.
    pub fn write(&self, record: LogRecord, metrics: &Metrics) {
        if let Some(sender) = &self.0
            && sender.lines.try_send(record).is_err()
        {
            metrics.count_dropped_line();
        }
    }

    /// Says that no more lines will come: the authorizer has answered its last check.
    pub fn close(&self) {
        if let Some(sender) = &self.0 {
            sender.close.cancel();
        }
    }
}

async fn write_all(
    mut queue: mpsc::Receiver<LogRecord>,
    mut writer: impl AsyncWrite + Unpin,
    close: CancellationToken,
) {
    let (mut records, mut text) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            biased;
            count = queue.recv_many(&mut records, BATCH) => if count == 0 { return },
            // From now on `recv_many` gives what is there, and then nothing.
            () = close.cancelled(), if !queue.is_closed() => { queue.close(); continue },
        }
        text.clear();
        for record in records.drain(..) {
            // Strings and numbers have a JSON form, and a Vec takes it.
            if serde_json::to_writer(&mut text, &record).is_ok() {
                text.push(b'\n');
            }
        }
        let written = async {
            writer.write_all(&text).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, "cannot write the decision log; it ends here");
            return;
        }
    }
}

/// The time as RFC 3339, in UTC.
fn rfc3339(now: SystemTime) -> String {
    let now = OffsetDateTime::from(now);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        now.microsecond()
    )
}
