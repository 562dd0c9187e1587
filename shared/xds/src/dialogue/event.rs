//! One thing that was said, and its two written forms. Does not know which events are kept, nor for how long.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

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

/// Cuts a client's complaint to what a person reads.
pub(in super::super) fn complaint(message: &str) -> String {
    message.chars().take(COMPLAINT_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// How events are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A line of a timeline, for people.
    #[default]
    Timeline,
    /// A JSON object a line, for programs.
    Json,
}

/// A name that is not in [`Form::NAMES`].
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a format of the xDS log: write timeline or json")]
pub struct UnknownForm(String);

impl FromStr for Form {
    type Err = UnknownForm;

    fn from_str(text: &str) -> Result<Self, UnknownForm> {
        match text {
            "timeline" => Ok(Self::Timeline),
            "json" => Ok(Self::Json),
            _ => Err(UnknownForm(text.to_owned())),
        }
    }
}

impl Form {
    /// Their names on a command line.
    pub const NAMES: [&str; 2] = ["timeline", "json"];

    /// The event as one line.
    pub fn line(self, event: &Event) -> String {
        match self {
            Self::Timeline => event.to_string(),
            // An event is strings and numbers; that has a JSON form.
            Self::Json => serde_json::to_string(event).unwrap_or_default(),
        }
    }
}
