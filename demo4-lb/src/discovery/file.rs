//! Backends in a YAML file, which people or scripts change.
//!
//! ```yaml
//! endpoints:
//!   - address: 127.0.0.1:50051
//!   - address: 127.0.0.1:50052
//!     locality: east    # a region; "local" unless said
//!     weight: 2         # 1 to 10000; 1 unless said
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::follow::{CONFIRM_AFTER, Change, Follower, PollTiming, Reading, Source, text};

use super::found::{Found, LOOK_EVERY, MOST_WEIGHT};
use crate::topology::{Endpoint, REGION};

const PACE: PollTiming = PollTiming { every: LOOK_EVERY, confirm: Some(CONFIRM_AFTER) };

/// The largest file that is read, in bytes: tens of thousands of backends.
const MOST: u64 = 4 << 20;

/// The file gives no backends.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {why}; --endpoints file:PATH wants a YAML list of endpoints", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// It is no list of endpoints.
    #[error("{}: {why}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    endpoints: Vec<One>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    address: SocketAddr,
    #[serde(default = "local")]
    locality: String,
    #[serde(default = "one")]
    weight: u32,
}

fn local() -> String {
    REGION.to_owned()
}

fn one() -> u32 {
    1
}

/// A file that lists backends.
struct Listing(PathBuf);

impl Source for Listing {
    type Content = String;
    type Value = Vec<Found>;
    type Error = FileError;

    fn read(&mut self) -> Result<Reading<String>, FileError> {
        text(&self.0, MOST).map_err(|why| FileError::Unreadable { path: self.0.clone(), why })
    }

    fn parse(&mut self, text: &String) -> Result<Vec<Found>, FileError> {
        parse(&self.0, text)
    }
}

/// Passes on the backends of the file now and whenever they change. Later errors change nothing except the log.
pub(super) async fn follow(path: PathBuf, mut found: impl FnMut(Vec<Found>)) -> Result<(), FileError> {
    let mut follower = Follower::new(Listing(path), PACE);
    found(follower.first().await?);
    let report = |change| {
        if let Change::Value(backends) = change {
            found(backends);
        }
    };
    follower.follow("keeping what is known", report).await;
    Ok(())
}

fn parse(path: &Path, text: &str) -> Result<Vec<Found>, FileError> {
    let broken = |why: String| FileError::Broken { path: path.to_owned(), why };
    let listed: Listed = serde_saphyr::from_str(text)
        // One line: line and column say where, a picture of the place is for a terminal.
        .map_err(|error| broken(error.without_snippet().to_string()))?;
    let mut backends = Vec::with_capacity(listed.endpoints.len());
    for (number, One { address, locality, weight }) in listed.endpoints.into_iter().enumerate() {
        if !(1..=MOST_WEIGHT).contains(&weight) || locality.is_empty() || address.port() == 0 {
            return Err(broken(format!(
                "endpoints[{number}]: a weight is from 1 to {MOST_WEIGHT}, a port at least 1, and a locality has a name"
            )));
        }
        backends.push(Found { region: locality, endpoint: Endpoint { address, weight, healthy: true } });
    }
    backends.sort_unstable();
    if let Some(pair) = backends.windows(2).find(|pair| pair[0].endpoint.address == pair[1].endpoint.address)
    {
        return Err(broken(format!("{} stands there twice", pair[0].endpoint.address)));
    }
    Ok(backends)
}
