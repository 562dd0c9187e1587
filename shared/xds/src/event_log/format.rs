//! The two written forms of an event: a line of a timeline, and a line of JSON.

use std::fmt;
use std::str::FromStr;

use super::event::{Event, EventKind};
use super::name_list::NameList;

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventFormat {
    /// One line of a timeline per event, for readers.
    #[default]
    Timeline,
    /// One JSON object per line, for programs.
    Json,
}

/// A name that is not in [`EventFormat::NAMES`].
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a format of the xDS log: write timeline or json")]
pub struct UnknownFormat(String);

impl FromStr for EventFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "timeline" => Ok(Self::Timeline),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(text.to_owned())),
        }
    }
}

impl EventFormat {
    /// The names of the formats on a command line.
    pub const NAMES: [&str; 2] = ["timeline", "json"];

    /// Returns the event as one line.
    pub fn line(self, event: &Event) -> String {
        match self {
            Self::Timeline => event.to_string(),
            // An event consists of strings and numbers, so serialization cannot fail.
            Self::Json => serde_json::to_string(event).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Event {
    /// Writes one line of a timeline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if matches!(self.kind, EventKind::Response { .. } | EventKind::LargeResponse { .. }) {
            "<-"
        } else {
            "->"
        };
        write!(
            f,
            "{:9.3} {} #{} {arrow} {:4}",
            self.at.as_secs_f64(),
            self.node,
            self.stream,
            self.type_name
        )?;
        match &self.kind {
            EventKind::Opened { group } if group.is_empty() => write!(f, "opens"),
            EventKind::Opened { group } => write!(f, "opens, group {group}"),
            EventKind::Request { names, unsubscribed, resumes_from } => {
                if names.names.is_empty() && unsubscribed.names.is_empty() {
                    f.write_str("asks for all")?;
                }
                f.write_str(&changes(names, unsubscribed).join(", "))?;
                if resumes_from.is_empty() { Ok(()) } else { write!(f, ", has {resumes_from}") }
            }
            EventKind::Response { version, nonce, names, removed, bytes } => {
                write!(f, "{nonce}: {names}")?;
                if !removed.names.is_empty() {
                    write!(f, " without {removed}")?;
                }
                write!(f, " version {version}, {bytes} B")
            }
            EventKind::Ack { nonce, names, unsubscribed, .. } => {
                write!(f, "ACK {nonce}")?;
                changes(names, unsubscribed).iter().try_for_each(|change| write!(f, ", {change}"))
            }
            EventKind::Nack { nonce, names, message, .. } => write!(f, "NACK {nonce} {names}: {message}"),
            EventKind::LargeResponse { version, bytes, largest } => {
                write!(f, "large response: version {version}, {bytes} B; the largest resources are")?;
                let sizes: Vec<_> =
                    largest.iter().map(|(name, bytes)| format!(" {name} ({bytes} B)")).collect();
                f.write_str(&sizes.join(","))
            }
            EventKind::Stale { nonce, names, unsubscribed } => {
                write!(f, "answers {nonce}, too late to count")?;
                changes(names, unsubscribed).iter().try_for_each(|change| write!(f, ", {change}"))
            }
            EventKind::UnknownType => write!(f, "asks for a type that is not served"),
            EventKind::Closed => write!(f, "closes"),
        }
    }
}

/// What a request adds to a subscription and takes from it, in words.
fn changes(names: &NameList, unsubscribed: &NameList) -> Vec<String> {
    let change = |what: &str, names: &NameList| (!names.names.is_empty()).then(|| format!("{what} {names}"));
    change("asks for", names).into_iter().chain(change("drops", unsubscribed)).collect()
}
