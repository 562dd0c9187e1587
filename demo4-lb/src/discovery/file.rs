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

use super::discovered::{DiscoveredEndpoint, MAX_WEIGHT, POLL_INTERVAL};
use crate::topology::{Endpoint, REGION};

const PACE: PollTiming = PollTiming { every: POLL_INTERVAL, confirm: Some(CONFIRM_AFTER) };

/// The largest file that is read, in bytes: tens of thousands of backends.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The file gives no backends.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {reason}; --endpoints file:PATH wants a YAML list of endpoints", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// It is no list of endpoints.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointFile {
    endpoints: Vec<EndpointEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointEntry {
    address: SocketAddr,
    #[serde(default = "default_region")]
    locality: String,
    #[serde(default = "default_weight")]
    weight: u32,
}

fn default_region() -> String {
    REGION.to_owned()
}

fn default_weight() -> u32 {
    1
}

/// A file that lists backends.
struct FileSource(PathBuf);

impl Source for FileSource {
    type Content = String;
    type Value = Vec<DiscoveredEndpoint>;
    type Error = FileError;

    fn read(&mut self) -> Result<Reading<String>, FileError> {
        text(&self.0, MAX_FILE_BYTES).map_err(|reason| FileError::Unreadable { path: self.0.clone(), reason })
    }

    fn parse(&mut self, text: &String) -> Result<Vec<DiscoveredEndpoint>, FileError> {
        parse(&self.0, text)
    }
}

/// Passes on the backends of the file now and whenever they change. Later errors change nothing except the log.
pub(super) async fn watch(
    path: PathBuf,
    mut on_change: impl FnMut(Vec<DiscoveredEndpoint>),
) -> Result<(), FileError> {
    let mut follower = Follower::new(FileSource(path), PACE);
    on_change(follower.first().await?);
    let report = |change| {
        if let Change::Value(backends) = change {
            on_change(backends);
        }
    };
    follower.follow("keeping what is known", report).await;
    Ok(())
}

fn parse(path: &Path, text: &str) -> Result<Vec<DiscoveredEndpoint>, FileError> {
    let invalid = |reason: String| FileError::Invalid { path: path.to_owned(), reason };
    let file: EndpointFile = serde_saphyr::from_str(text)
        // One line: line and column say where, a picture of the place is for a terminal.
        .map_err(|error| invalid(error.without_snippet().to_string()))?;
    let mut backends = Vec::with_capacity(file.endpoints.len());
    for (number, EndpointEntry { address, locality, weight }) in file.endpoints.into_iter().enumerate() {
        if !(1..=MAX_WEIGHT).contains(&weight) || locality.is_empty() || address.port() == 0 {
            return Err(invalid(format!(
                "endpoints[{number}]: a weight is from 1 to {MAX_WEIGHT}, a port at least 1, and a locality has a name"
            )));
        }
        backends.push(DiscoveredEndpoint {
            region: locality,
            endpoint: Endpoint { address, weight, healthy: true },
        });
    }
    backends.sort_unstable();
    if let Some(pair) = backends.windows(2).find(|pair| pair[0].endpoint.address == pair[1].endpoint.address)
    {
        return Err(invalid(format!("{} stands there twice", pair[0].endpoint.address)));
    }
    Ok(backends)
}
