//! The files that the authorizer reads while it runs: keys and policies. It uses what they hold now, or the last valid state.
//!
//! When a change is published is decided in [`shared::follow`]: after two equal looks, so that a half-written policy file
//! never removes a `forbid`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::follow::{CONFIRM_AFTER, Change, Follower, PollTiming, Reading, Source, text};
use shared::lifecycle::Lifecycle;
use tokio::sync::watch;

use crate::jwks::Jwks;
use crate::metrics::Metrics;
use crate::policy::Policies;
use crate::token::{Expected, Verifier};

/// How often the files are read.
const PACE: PollTiming = PollTiming { every: Duration::from_millis(500), confirm: Some(CONFIRM_AFTER) };

/// The largest file that is read, in bytes.
const MOST: u64 = 1 << 20;

/// The most policy files that are read.
const FILES: usize = 100;

/// Why there is nothing to begin with, or why a change is not used.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// It can be read, and not be used.
    #[error("{0}")]
    Unusable(String),
}

/// What files hold, as long as they are followed.
#[derive(Debug)]
pub struct Followed<T> {
    /// The newest that was good.
    pub newest: watch::Receiver<Arc<T>>,
    /// What is wrong with the files as they are now, with the place; nothing if empty.
    pub complaint: watch::Receiver<String>,
}

/// Verifies tokens with the keys of a JWKS file, always the newest valid ones.
///
/// # Errors
/// [`ReloadError`] if the file has no valid keys now. Later errors are logged.
pub async fn keys(
    file: &Path,
    expected: &Expected,
    metrics: &Metrics,
    life: &Lifecycle,
) -> Result<Followed<Verifier>, ReloadError> {
    follow("keys", Keys { file: file.to_owned(), expected: expected.clone() }, metrics, life).await
}

/// Returns the policies of a folder's `*.cedar` files, always the newest valid ones.
///
/// # Errors
/// [`ReloadError`] if the folder has no valid policies now. Later errors are logged.
pub async fn policies(
    folder: &Path,
    metrics: &Metrics,
    life: &Lifecycle,
) -> Result<Followed<Policies>, ReloadError> {
    follow("policies", PolicyFolder(folder.to_owned()), metrics, life).await
}

/// Reads once, and then again and again in the background.
async fn follow<S>(
    what: &'static str,
    source: S,
    metrics: &Metrics,
    life: &Lifecycle,
) -> Result<Followed<S::Value>, ReloadError>
where
    S: Source<Content: 'static, Value: Sync + 'static, Error = ReloadError>,
{
    let mut follower = Follower::new(source, PACE);
    let (newest, receiver) = watch::channel(Arc::new(follower.first().await?));
    let (complain, complaint) = watch::channel(String::new());
    let metrics = metrics.clone();
    let report = move |change| match change {
        Change::Value(value) => {
            newest.send_replace(Arc::new(value));
            complain.send_replace(String::new());
            metrics.count_reload(what, true);
        }
        Change::Failed(message) => {
            complain.send_replace(message);
            metrics.count_reload(what, false);
        }
        Change::Restored => drop(complain.send_replace(String::new())),
    };
    let kept = format!("the last good {what} stay");
    let following = async move { follower.follow(&kept, report).await };
    life.spawn(life.token().run_until_cancelled_owned(following));
    Ok(Followed { newest: receiver, complaint })
}

/// A JWKS file, and what its tokens must say.
struct Keys {
    file: PathBuf,
    expected: Expected,
}

impl Source for Keys {
    type Content = String;
    type Value = Verifier;
    type Error = ReloadError;

    fn read(&mut self) -> Result<Reading<String>, ReloadError> {
        read(&self.file)
    }

    fn parse(&mut self, text: &String) -> Result<Verifier, ReloadError> {
        let name = self.file.display();
        let keys = Jwks::parse(text).map_err(|error| ReloadError::Unusable(format!("{name}: {error}")))?;
        tracing::info!(keys = keys.len(), "believing tokens that the keys of {name} signed");
        Ok(Verifier::new(keys, self.expected.clone()))
    }
}

/// A folder of policies.
struct PolicyFolder(PathBuf);

impl Source for PolicyFolder {
    type Content = BTreeMap<String, String>;
    type Value = Policies;
    type Error = ReloadError;

    fn read(&mut self) -> Result<Reading<BTreeMap<String, String>>, ReloadError> {
        texts(&self.0)
    }

    fn parse(&mut self, files: &BTreeMap<String, String>) -> Result<Policies, ReloadError> {
        let name = self.0.display();
        if files.is_empty() {
            let why = format!("{name}: no *.cedar file in it; nothing would be permitted");
            return Err(ReloadError::Unusable(why));
        }
        let policies =
            Policies::parse(files).map_err(|error| ReloadError::Unusable(format!("{name}/{error}")))?;
        tracing::info!(policies = policies.len(), "deciding by the policies of {name}");
        Ok(policies)
    }
}

/// Reads the policy files in the order of their names.
fn texts(folder: &Path) -> Result<Reading<BTreeMap<String, String>>, ReloadError> {
    let unreadable = |why| ReloadError::Unreadable { path: folder.to_owned(), why };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "cedar") {
            continue;
        }
        if paths.len() == FILES {
            return Err(unreadable(std::io::Error::other(format!("more than {FILES} policy files"))));
        }
        paths.push(path);
    }
    // The order of a folder's entries is not stable.
    paths.sort_unstable();
    let mut files = Reading { content: BTreeMap::new(), modified: Vec::new() };
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Reading { content, modified } = read(&path)?;
        files.content.insert(name, content);
        files.modified.extend(modified);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Reading<String>, ReloadError> {
    text(path, MOST).map_err(|why| ReloadError::Unreadable { path: path.to_owned(), why })
}
