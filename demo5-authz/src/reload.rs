//! Files that change while we run: what they hold now, or the last that was good.
//!
//! ```text
//! read ──> the same as before? ──no──> parse ──good──> published
//!   ^ every half second                  └──bad──> told once, with the place; what was published stays
//! ```
//!
//! By looking, not by the system's notices: an editor replaces the file, a container's mount replaces the folder, and a
//! notice is about what was there before.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::lifecycle::Lifecycle;
use tokio::sync::watch;

use crate::jwks::Jwks;
use crate::metrics::Metrics;
use crate::policy::Policies;
use crate::token::{Expected, Verifier};

/// How often files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

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

/// Verifies tokens with the keys of a JWKS file, always the newest good ones.
///
/// # Errors
/// [`ReloadError`] if the file gives no keys now; later it is told in the log.
pub fn keys(
    file: &Path,
    expected: &Expected,
    metrics: &Metrics,
    life: &Lifecycle,
) -> Result<Followed<Verifier>, ReloadError> {
    let (path, name, expected) = (file.to_owned(), file.display().to_string(), expected.clone());
    let parse = move |text: &String| {
        let keys = Jwks::parse(text).map_err(|error| format!("{name}: {error}"))?;
        tracing::info!(keys = keys.len(), "believing tokens that the keys of {name} signed");
        Ok(Verifier::new(keys, expected.clone()))
    };
    follow("keys", move || text(&path), parse, metrics, life)
}

/// The policies of a folder's `*.cedar` files, always the newest good ones.
///
/// # Errors
/// [`ReloadError`] if the folder gives no policies now; later it is told in the log.
pub fn policies(
    folder: &Path,
    metrics: &Metrics,
    life: &Lifecycle,
) -> Result<Followed<Policies>, ReloadError> {
    let (path, name) = (folder.to_owned(), folder.display().to_string());
    let parse = move |files: &BTreeMap<String, String>| {
        if files.is_empty() {
            return Err(format!("{name}: no *.cedar file in it; nothing would be permitted"));
        }
        let policies = Policies::parse(files).map_err(|error| format!("{name}/{error}"))?;
        tracing::info!(policies = policies.len(), "deciding by the policies of {name}");
        Ok(policies)
    };
    follow("policies", move || texts(&path), parse, metrics, life)
}

/// Reads now, and then again and again.
fn follow<S, T>(
    what: &'static str,
    read: impl Fn() -> Result<S, ReloadError> + Send + Sync + 'static,
    parse: impl Fn(&S) -> Result<T, String> + Send + 'static,
    metrics: &Metrics,
    life: &Lifecycle,
) -> Result<Followed<T>, ReloadError>
where
    S: PartialEq + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    let mut known = read()?;
    let (newest, receiver) = watch::channel(Arc::new(parse(&known).map_err(ReloadError::Unusable)?));
    let (complain, complaint) = watch::channel(String::new());
    let (stop, metrics, read) = (life.token(), metrics.clone(), Arc::new(read));
    life.spawn(async move {
        let mut every = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(every.tick()).await.is_some() {
            let read = Arc::clone(&read);
            // A disk may take its time.
            let Ok(now) = tokio::task::spawn_blocking(move || read()).await else { return };
            let now = match now {
                Ok(now) if now == known => {
                    // As it was, which also ends a complaint: a bad change was taken back.
                    complain.send_if_modified(|complaint| !std::mem::take(complaint).is_empty());
                    continue;
                }
                Ok(now) => parse(&now).map(|parsed| (now, parsed)),
                Err(error) => Err(error.to_string()),
            };
            match now {
                Ok((now, parsed)) => {
                    known = now;
                    complain.send_replace(String::new());
                    metrics.count_reload(what, true);
                    newest.send_replace(Arc::new(parsed));
                }
                Err(told) if told == *complain.borrow() => {}
                Err(told) => {
                    tracing::warn!("{told}; the last good {what} stay");
                    metrics.count_reload(what, false);
                    complain.send_replace(told);
                }
            }
        }
    });
    Ok(Followed { newest: receiver, complaint })
}

fn texts(folder: &Path) -> Result<BTreeMap<String, String>, ReloadError> {
    let unreadable = |why| ReloadError::Unreadable { path: folder.to_owned(), why };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "cedar") {
            continue;
        }
        if files.len() == FILES {
            return Err(unreadable(std::io::Error::other(format!("more than {FILES} policy files"))));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, text(&path)?);
    }
    Ok(files)
}

fn text(path: &Path) -> Result<String, ReloadError> {
    let reading = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MOST {
            return Err(std::io::Error::other(format!("it is larger than {MOST} bytes")));
        }
        Ok(text)
    };
    reading().map_err(|why| ReloadError::Unreadable { path: path.to_owned(), why })
}
