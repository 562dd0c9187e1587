//! What clients and server said to each other: for people, for reports, for tests.
//!
//! Keeps the newest events, each with node, stream, type, version, nonce and names. Never what a
//! resource holds, so that no secret can get here.

mod clients;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use clients::Client;
use serde::Serialize;
use tokio::sync::watch;

use super::frame::Dialect;

/// How many names an event lists; the rest is counted.
const NAMES_SHOWN: usize = 16;

/// How much of a client's complaint is kept, in characters.
const COMPLAINT_SHOWN: usize = 2000;

/// Names, shortened for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Names {
    /// The first of them, in order.
    pub names: Vec<Arc<str>>,
    /// How many there are beyond those.
    pub more: usize,
}

impl Names {
    /// Shortens a list.
    pub fn new(mut names: Vec<Arc<str>>) -> Self {
        let more = names.len().saturating_sub(NAMES_SHOWN);
        if more > 0 {
            // Sorting a long list only to cut it would cost more than it tells.
            names.truncate(NAMES_SHOWN);
        }
        names.sort_unstable();
        Self { names, more }
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}", self.names.join(", "))?;
        if self.more > 0 {
            write!(f, ", and {} more", self.more)?;
        }
        f.write_str("]")
    }
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// The client opened the stream.
    Opened {
        /// The group whose snapshots it is shown.
        group: String,
    },
    /// The client asked for these names (delta: also, or instead, dropped some).
    Asked {
        /// What it named; empty for the wildcard's older spelling.
        names: Names,
        /// What it no longer wants (delta).
        dropped: Names,
        /// The version that it had on an earlier stream, or how many resources it listed.
        has: String,
    },
    /// The server sent a response.
    Sent {
        /// The version of the whole.
        version: String,
        /// What the answer will quote.
        nonce: u64,
        /// What it carried.
        names: Names,
        /// What it told to be gone.
        removed: Names,
        /// Its size on the wire.
        bytes: usize,
    },
    /// The client accepted a response, and maybe changed what it asks for.
    Ack {
        /// The version of the response.
        version: String,
        /// Which.
        nonce: String,
        /// What it asks for, if it changed that.
        names: Names,
        /// What it no longer wants (delta).
        dropped: Names,
    },
    /// The client refused a response.
    Nack {
        /// The version of the response; empty if that was forgotten.
        version: String,
        /// Which.
        nonce: String,
        /// What was new in it.
        names: Names,
        /// The client's words.
        message: String,
    },
    /// The client answered a response that a newer one had overtaken.
    Stale {
        /// Which.
        nonce: String,
        /// What it asked for with it.
        names: Names,
        /// What it no longer wants (delta).
        dropped: Names,
    },
    /// The client asked for a type that is not served here.
    Unserved,
    /// The stream ended.
    Closed,
}

/// One thing said on one stream.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// When; written as seconds since 1970.
    #[serde(serialize_with = "since_1970")]
    pub time: SystemTime,
    /// Seconds since the dialogue began.
    #[serde(serialize_with = "as_seconds")]
    pub at: Duration,
    /// The client's node id.
    pub node: Arc<str>,
    /// Counts the server's streams.
    pub stream: u64,
    /// The type's discovery service (`CDS` …), or the URL of a type that is not served; empty for
    /// the stream itself.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether the stream speaks delta.
    pub delta: bool,
    /// What was said.
    #[serde(flatten)]
    pub said: Said,
}

fn as_seconds<S: serde::Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((at.as_secs_f64() * 1e6).round() / 1e6)
}

fn since_1970<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    // A clock before 1970 is no reason to lose the event.
    as_seconds(&time.duration_since(UNIX_EPOCH).unwrap_or_default(), serializer)
}

impl fmt::Display for Event {
    /// One line of a timeline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if matches!(self.said, Said::Sent { .. }) { "<-" } else { "->" };
        write!(f, "{:9.3} {} #{} {arrow} {:4}", self.at.as_secs_f64(), self.node, self.stream, self.kind)?;
        match &self.said {
            Said::Opened { group } if group.is_empty() => write!(f, "opens"),
            Said::Opened { group } => write!(f, "opens, group {group}"),
            Said::Asked { names, dropped, has } => {
                if names.names.is_empty() && dropped.names.is_empty() {
                    f.write_str("asks for all")?;
                }
                f.write_str(&changes(names, dropped).join(", "))?;
                if has.is_empty() { Ok(()) } else { write!(f, ", has {has}") }
            }
            Said::Sent { version, nonce, names, removed, bytes } => {
                write!(f, "{nonce}: {names}")?;
                if !removed.names.is_empty() {
                    write!(f, " without {removed}")?;
                }
                write!(f, " version {version}, {bytes} B")
            }
            Said::Ack { nonce, names, dropped, .. } => {
                write!(f, "ACK {nonce}")?;
                changes(names, dropped).iter().try_for_each(|change| write!(f, ", {change}"))
            }
            Said::Nack { nonce, names, message, .. } => write!(f, "NACK {nonce} {names}: {message}"),
            Said::Stale { nonce, names, dropped } => {
                write!(f, "answers {nonce}, too late to count")?;
                changes(names, dropped).iter().try_for_each(|change| write!(f, ", {change}"))
            }
            Said::Unserved => write!(f, "asks for a type that is not served"),
            Said::Closed => write!(f, "closes"),
        }
    }
}

/// What a request adds to a subscription and takes from it, in words.
fn changes(names: &Names, dropped: &Names) -> Vec<String> {
    let change = |what: &str, names: &Names| (!names.names.is_empty()).then(|| format!("{what} {names}"));
    change("asks for", names).into_iter().chain(change("drops", dropped)).collect()
}

/// The newest events of a server. Clones share them.
#[derive(Clone, Debug)]
pub struct Dialogue(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    begun: Instant,
    capacity: usize,
    events: Mutex<VecDeque<Arc<Event>>>,
    clients: Mutex<BTreeMap<u64, Client>>,
    /// How many events there ever were.
    count: watch::Sender<u64>,
}

impl Default for Dialogue {
    fn default() -> Self {
        Self::keeping(10_000)
    }
}

impl Dialogue {
    /// A dialogue that keeps this many events.
    pub fn keeping(capacity: usize) -> Self {
        let (events, clients) = (Mutex::new(VecDeque::new()), Mutex::default());
        Self(Arc::new(Kept {
            begun: Instant::now(),
            capacity,
            events,
            clients,
            count: watch::Sender::new(0),
        }))
    }

    /// How many events there ever were: a place to look from, later.
    pub fn mark(&self) -> u64 {
        *self.0.count.borrow()
    }

    /// The events since a [`mark`](Self::mark) that are still kept, oldest first.
    pub fn since(&self, mark: u64) -> Vec<Arc<Event>> {
        let events = lock(&self.0.events);
        let count = self.mark();
        let wanted = usize::try_from(count.saturating_sub(mark)).unwrap_or(usize::MAX);
        events.iter().skip(events.len().saturating_sub(wanted)).cloned().collect()
    }

    /// Waits for events since `mark` and returns them with the mark behind them, for following along.
    pub async fn next_since(&self, mark: u64) -> (Vec<Arc<Event>>, u64) {
        let mut count = self.0.count.subscribe();
        // The sender lives as long as we do, so that an error cannot come.
        _ = count.wait_for(|count| *count > mark).await;
        let events = lock(&self.0.events);
        let count = self.mark();
        let wanted = usize::try_from(count - mark).unwrap_or(usize::MAX);
        (events.iter().skip(events.len().saturating_sub(wanted)).cloned().collect(), count)
    }

    /// All events that are kept, oldest first.
    pub fn events(&self) -> Vec<Arc<Event>> {
        self.since(0)
    }

    /// Waits for the first event since `mark` that `is_it`; bound it with a timeout.
    pub async fn wait_for(&self, mark: u64, is_it: impl Fn(&Event) -> bool) -> Arc<Event> {
        let mut count = self.0.count.subscribe();
        loop {
            count.borrow_and_update();
            if let Some(event) = self.since(mark).into_iter().find(|event| is_it(event)) {
                return event;
            }
            if count.changed().await.is_err() {
                // We hold the sender ourselves, so this cannot happen; waiting is right all the same.
                std::future::pending::<()>().await;
            }
        }
    }

    /// How long ago the dialogue began.
    pub fn now(&self) -> Duration {
        self.0.begun.elapsed()
    }

    pub(super) fn record(&self, node: &Arc<str>, stream: u64, dialect: Dialect, kind: &str, said: Said) {
        let event = Event {
            time: SystemTime::now(),
            at: self.now(),
            node: Arc::clone(node),
            stream,
            kind: kind.to_owned(),
            delta: dialect == Dialect::Delta,
            said,
        };
        tracing::debug!(target: "xds", "{event}");
        self.note(&event);
        let mut events = lock(&self.0.events);
        events.push_back(Arc::new(event));
        if events.len() > self.0.capacity {
            events.pop_front();
        }
        self.0.count.send_modify(|count| *count += 1);
    }
}

/// Each event and each client is replaced in one step, so a poisoned lock is no reason to fall silent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cuts a client's complaint to what a person reads.
pub(super) fn complaint(message: &str) -> String {
    message.chars().take(COMPLAINT_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// How events are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A line of a timeline, for people.
    #[default]
    Timeline,
    /// A JSON object a line, for programs.
    Json,
}

impl Form {
    /// The event as one line.
    pub fn line(self, event: &Event) -> String {
        match self {
            Self::Timeline => event.to_string(),
            // An event is strings and numbers; that has a JSON form.
            Self::Json => serde_json::to_string(event).unwrap_or_default(),
        }
    }
}
