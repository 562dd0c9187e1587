#![doc = include_str!("../README.md")]
//!
//! Resources from a folder of YAML and JSON files, in the form that Envoy itself reads from files.
//!
//! ```yaml
//! resources:
//!   - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
//!     name: blue
//! ```
//!
//! ```text
//!   folder ──read──> texts ──parse──> resources ──Snapshot::new──> published
//!             twice the same text         └── an error: told once, and what was published stays
//! ```
//!
//! Knows what is news, and what all files make together. What one look finds is in `look.rs`, how a text becomes
//! resources in `parse.rs`.
//! Source: "Dynamic configuration from filesystem" in Envoy's documentation.
#![forbid(unsafe_code)]

mod look;

mod parse;

pub mod document;

mod canonical;

mod telling;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_xds::snapshot::{Snapshot, SnapshotError};
use mesh_xds::{Resource, ResourceType};

use look::{Seen, look};
use parse::parse;

/// The time between two looks. A change is published when the second one finds what the first did.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why a folder gives no snapshot. Each says which file, and where in it.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The folder or a file cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// There is nothing to serve.
    #[error("no .yaml, .yml or .json file in {}: each holds a list `resources:`, as Envoy reads it from files", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{}: {place}{why}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The path in the document, with a colon, if the error has one.
        place: String,
        /// What is wrong; for a document that does not parse with line and column.
        why: String,
    },
    /// Two files name the same resource.
    #[error("{} and {} both have the {} '{name}'; a name may stand once", first.display(), second.display(), kind.noun())]
    Twice {
        /// One file.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
        /// The resource's type.
        kind: ResourceType,
        /// The resource's name.
        name: String,
    },
    /// Something refers to what is not there.
    #[error("{}: {why}{}", path.display(), remedy(why))]
    Inconsistent {
        /// The file of the resource that refers.
        path: PathBuf,
        /// Who refers to whom.
        why: SnapshotError,
    },
}

/// What else may be meant.
fn remedy(why: &SnapshotError) -> &'static str {
    match why {
        SnapshotError::Missing { to_kind: ResourceType::Cluster, .. } => {
            ", or name it with --bootstrap-cluster if Envoys have it from their bootstrap"
        }
        _ => "",
    }
}

/// A folder, and what was read from it last.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Clusters that clients have from their bootstrap.
    outside: Vec<String>,
    seen: BTreeMap<PathBuf, Seen>,
    files: BTreeMap<PathBuf, File>,
}

#[derive(Clone, Debug)]
struct File {
    text: Arc<str>,
    resources: Vec<Arc<Resource>>,
}

impl Folder {
    /// A folder that has not been read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), outside: Vec::new(), seen: BTreeMap::new(), files: BTreeMap::new() }
    }

    /// The same, whose resources may also refer to these clusters: clients have them from their bootstrap.
    pub fn beside(self, clusters: &[String]) -> Self {
        Self { outside: clusters.to_vec(), ..self }
    }

    /// Reads the folder, and returns what it holds if that is news, and if the read before found the same.
    ///
    /// A file that is just being written may well parse: half a list of clusters is a list of clusters. So nothing is
    /// published before two reads agree on every text and time. Files whose text is the same as in what was published
    /// last are not parsed again.
    ///
    /// # Errors
    /// [`FilesError`]; what was published last is still known then.
    pub fn read(&mut self) -> Result<Option<Snapshot>, FilesError> {
        // An error forgets what was seen: two looks in a row have to agree.
        let before = std::mem::take(&mut self.seen);
        self.seen = look(&self.path)?;
        if self.seen != before {
            return Ok(None);
        }
        let same = |(path, seen): (&PathBuf, &Seen)| {
            self.files.get(path).is_some_and(|file| *file.text == *seen.text)
        };
        if self.seen.len() == self.files.len() && self.seen.iter().all(same) {
            return Ok(None);
        }
        let mut files = BTreeMap::new();
        for (path, Seen { text, .. }) in &self.seen {
            let file = match self.files.get(path) {
                Some(known) if *known.text == **text => known.clone(),
                _ => File { resources: parse(path, text)?, text: Arc::clone(text) },
            };
            files.insert(path.clone(), file);
        }
        let snapshot = together(&files, &self.outside)?;
        self.files = files;
        Ok(Some(snapshot))
    }

    /// Reads until there is something to serve: for the start.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn first(&mut self) -> Result<Snapshot, FilesError> {
        loop {
            if let Some(snapshot) = self.read()? {
                return Ok(snapshot);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads it again and again, and hands on each new snapshot. An error is told once, in the log.
    pub async fn follow(mut self, mut publish: impl FnMut(Snapshot)) {
        let mut complaint = String::new();
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            every.tick().await;
            let read = tokio::task::spawn_blocking(move || (self.read(), self)).await;
            // It does not panic, and nobody aborts it but a runtime that ends.
            let Ok((read, folder)) = read else { return };
            self = folder;
            match read {
                Ok(None) => complaint.clear(),
                Ok(Some(snapshot)) => {
                    complaint.clear();
                    publish(snapshot);
                }
                Err(error) => {
                    let told = error.to_string();
                    if told != complaint {
                        tracing::warn!("{told}; what was published stays");
                        complaint = told;
                    }
                }
            }
        }
    }
}

fn together(files: &BTreeMap<PathBuf, File>, outside: &[String]) -> Result<Snapshot, FilesError> {
    let mut places: BTreeMap<(ResourceType, &str), &Path> = BTreeMap::new();
    for (path, file) in files {
        for resource in &file.resources {
            if let Some(first) = places.insert((resource.kind(), resource.name()), path) {
                let (first, second, kind) = (first.to_owned(), path.clone(), resource.kind());
                return Err(FilesError::Twice { first, second, kind, name: resource.name().to_string() });
            }
        }
    }
    let outside: Vec<&str> = outside.iter().map(String::as_str).collect();
    let resources = files.values().flat_map(|file| &file.resources).cloned();
    Snapshot::with_external_clusters(resources, &outside).map_err(|why| {
        let path = places.get(&why.resource()).copied().unwrap_or(Path::new("")).to_owned();
        FilesError::Inconsistent { path, why }
    })
}
