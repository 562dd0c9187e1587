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
use crate::token::{ValidationParams, Verifier};

/// How often the files are read.
const POLL_TIMING: PollTiming =
    PollTiming { every: Duration::from_millis(500), confirm: Some(CONFIRM_AFTER) };

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The most policy files that are read.
const MAX_POLICY_FILES: usize = 100;

/// Why there is nothing to begin with, or why a change is not used.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// It can be read, and not be used.
    #[error("{0}")]
    Invalid(String),
}

/// What files hold, as long as they are followed.
#[derive(Debug)]
pub struct Watched<T> {
    /// The newest that was good.
    pub latest: watch::Receiver<Arc<T>>,
    /// What is wrong with the files as they are now, with the place; nothing if empty.
    pub error: watch::Receiver<String>,
}

/// Verifies tokens with the keys of a JWKS file, always the newest valid ones.
///
/// # Errors
/// [`ReloadError`] if the file has no valid keys now. Later errors are logged.
pub async fn watch_keys(
    file: &Path,
    expected: &ValidationParams,
    metrics: &Metrics,
    life: &Lifecycle,
) -> Result<Watched<Verifier>, ReloadError> {
    watch("keys", JwksFile { file: file.to_owned(), expected: expected.clone() }, metrics, life).await
}

/// Returns the policies of a folder's `*.cedar` files, always the newest valid ones.
///
/// # Errors
/// [`ReloadError`] if the folder has no valid policies now. Later errors are logged.
pub async fn watch_policies(
    folder: &Path,
    metrics: &Metrics,
    life: &Lifecycle,
) -> Result<Watched<Policies>, ReloadError> {
    watch("policies", PolicyFolder(folder.to_owned()), metrics, life).await
}

/// Reads once, and then again and again in the background.
async fn watch<S>(
    kind: &'static str,
    source: S,
    metrics: &Metrics,
    life: &Lifecycle,
) -> Result<Watched<S::Value>, ReloadError>
where
    S: Source<Content: 'static, Value: Sync + 'static, Error = ReloadError>,
{
    let mut follower = Follower::new(source, POLL_TIMING);
    let (latest_sender, latest) = watch::channel(Arc::new(follower.first().await?));
    let (error_sender, error) = watch::channel(String::new());
    let metrics = metrics.clone();
    let report = move |change| match change {
        Change::Value(value) => {
            latest_sender.send_replace(Arc::new(value));
            error_sender.send_replace(String::new());
            metrics.count_reload(kind, true);
        }
        Change::Failed(message) => {
            error_sender.send_replace(message);
            metrics.count_reload(kind, false);
        }
        Change::Restored => drop(error_sender.send_replace(String::new())),
    };
    let on_failure = format!("the last good {kind} stay");
    let watching = async move { follower.follow(&on_failure, report).await };
    life.spawn(life.token().run_until_cancelled_owned(watching));
    Ok(Watched { latest, error })
}

/// A JWKS file, and what its tokens must say.
struct JwksFile {
    file: PathBuf,
    expected: ValidationParams,
}

impl Source for JwksFile {
    type Content = String;
    type Value = Verifier;
    type Error = ReloadError;

    fn read(&mut self) -> Result<Reading<String>, ReloadError> {
        read(&self.file)
    }

    fn parse(&mut self, text: &String) -> Result<Verifier, ReloadError> {
        let name = self.file.display();
        let keys = Jwks::parse(text).map_err(|error| ReloadError::Invalid(format!("{name}: {error}")))?;
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
        read_policies(&self.0)
    }

    fn parse(&mut self, files: &BTreeMap<String, String>) -> Result<Policies, ReloadError> {
        let name = self.0.display();
        if files.is_empty() {
            let reason = format!("{name}: no *.cedar file in it; nothing would be permitted");
            return Err(ReloadError::Invalid(reason));
        }
        let policies =
            Policies::parse(files).map_err(|error| ReloadError::Invalid(format!("{name}/{error}")))?;
        tracing::info!(policies = policies.len(), "deciding by the policies of {name}");
        Ok(policies)
    }
}

/// Reads the policy files in the order of their names.
fn read_policies(folder: &Path) -> Result<Reading<BTreeMap<String, String>>, ReloadError> {
    let unreadable = |reason| ReloadError::Unreadable { path: folder.to_owned(), reason };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "cedar") {
            continue;
        }
        if paths.len() == MAX_POLICY_FILES {
            return Err(unreadable(std::io::Error::other(format!(
                "more than {MAX_POLICY_FILES} policy files"
            ))));
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
    text(path, MAX_FILE_BYTES).map_err(|reason| ReloadError::Unreadable { path: path.to_owned(), reason })
}
