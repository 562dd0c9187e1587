//! A folder of resource files: what all files make together, published when it is complete and valid.
//!
//! What one look finds is in `look.rs`, how a text becomes resources in `parse.rs`, and when a change is published in
//! [`shared::follow`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_xds::snapshot::Snapshot;
use mesh_xds::{Resource, ResourceType};
use shared::follow::{CONFIRM_AFTER, Change, Follower, PollOutcome, PollTiming, Reading, Source};

use crate::error::FilesError;
use crate::look::look;
use crate::parse::parse;

/// How often the folder is read.
const PACE: PollTiming = PollTiming { every: Duration::from_millis(250), confirm: Some(CONFIRM_AFTER) };

/// A folder of resource files.
#[derive(Debug)]
pub struct Folder(Follower<Files>);

/// How the folder is read and parsed.
#[derive(Debug)]
struct Files {
    path: PathBuf,
    /// Clusters that clients have from their bootstrap.
    outside: Vec<String>,
    /// The files of the last snapshot, so that an unchanged file is not parsed again.
    known: BTreeMap<PathBuf, File>,
}

#[derive(Clone, Debug)]
struct File {
    text: Arc<str>,
    resources: Vec<Arc<Resource>>,
}

impl Folder {
    /// Names a folder. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let files = Files { path: path.into(), outside: Vec::new(), known: BTreeMap::new() };
        Self(Follower::new(files, PACE))
    }

    /// Allows resources to refer to these clusters, which clients have from their bootstrap.
    pub fn beside(mut self, clusters: &[String]) -> Self {
        clusters.clone_into(&mut self.0.source_mut().outside);
        self
    }

    /// Reads the folder, and returns its snapshot if it is new and if the read before found the same texts and times.
    ///
    /// A file that is being written may well parse: half a list of clusters is a list of clusters.
    ///
    /// # Errors
    /// [`FilesError`]; the snapshot returned last is still the valid one.
    pub fn read(&mut self) -> Result<Option<Snapshot>, FilesError> {
        Ok(match self.0.poll()? {
            PollOutcome::Value(snapshot) => Some(snapshot),
            PollOutcome::Unchanged | PollOutcome::Unconfirmed => None,
        })
    }

    /// Reads until there is a snapshot: for the start.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn first(&mut self) -> Result<Snapshot, FilesError> {
        self.0.first().await
    }

    /// Reads it again and again, and passes on each new snapshot. Logs each error once.
    pub async fn follow(self, mut publish: impl FnMut(Snapshot)) {
        let report = |change| {
            if let Change::Value(snapshot) = change {
                publish(snapshot);
            }
        };
        self.0.follow("what was published stays", report).await;
    }
}

impl Source for Files {
    type Content = BTreeMap<PathBuf, Arc<str>>;
    type Value = Snapshot;
    type Error = FilesError;

    fn read(&mut self) -> Result<Reading<Self::Content>, FilesError> {
        look(&self.path)
    }

    fn parse(&mut self, texts: &Self::Content) -> Result<Snapshot, FilesError> {
        let mut files = BTreeMap::new();
        for (path, text) in texts {
            let file = match self.known.get(path) {
                Some(known) if known.text == *text => known.clone(),
                _ => File { resources: parse(path, text)?, text: Arc::clone(text) },
            };
            files.insert(path.clone(), file);
        }
        let snapshot = together(&files, &self.outside)?;
        self.known = files;
        Ok(snapshot)
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
