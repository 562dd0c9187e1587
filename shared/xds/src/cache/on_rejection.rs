//! What a cache does with a group whose clients reject a snapshot.

use std::fmt;
use std::str::FromStr;

/// What happens to a group when clients reject a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnRejection {
    /// Nothing. The client that rejected keeps what it has; the other clients do not notice.
    #[default]
    Keep,
    /// The last snapshot that all clients of the group accepted is published again, if there is one and the quorum is
    /// reached.
    RollBack {
        /// How many clients have to reject a publication.
        quorum: Quorum,
    },
}

/// How many clients of a group have to reject a publication before the group is rolled back.
///
/// Only clients that are connected count. All streams of a node id are one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// This many clients.
    Clients(usize),
    /// This percentage of the connected clients.
    Percent(u8),
}

impl Quorum {
    /// Whether `rejecting` of `connected` clients are enough. No client is never enough.
    pub fn is_reached(self, rejecting: usize, connected: usize) -> bool {
        let is_enough = match self {
            Self::Clients(clients) => rejecting >= clients,
            Self::Percent(percent) => rejecting * 100 >= connected * usize::from(percent),
        };
        rejecting > 0 && is_enough
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients(1) => f.write_str("1 client"),
            Self::Clients(clients) => write!(f, "{clients} clients"),
            Self::Percent(percent) => write!(f, "{percent} % of the clients"),
        }
    }
}

/// A text that is neither a number of clients nor a percentage.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a quorum: write a number of clients, such as 2, or a percentage from 1 % to 100 %, such as 50%"
)]
pub struct InvalidQuorum(String);

impl FromStr for Quorum {
    type Err = InvalidQuorum;

    fn from_str(text: &str) -> Result<Self, InvalidQuorum> {
        let quorum = match text.strip_suffix('%') {
            Some(percent) => {
                percent.trim().parse().ok().filter(|percent| (1..=100).contains(percent)).map(Self::Percent)
            }
            None => text.parse().ok().filter(|clients| *clients > 0).map(Self::Clients),
        };
        quorum.ok_or_else(|| InvalidQuorum(text.to_owned()))
    }
}
