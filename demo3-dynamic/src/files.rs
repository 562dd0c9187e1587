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
//! The names of fields and messages are those of Envoy's API, whose description is compiled in; a message in an
//! `Any` may be any that Envoy 1.3x knows, whether this control plane looks into it or not.
//! Source: "Dynamic configuration from filesystem" in Envoy's documentation.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;
use shared::xds::resource::{Resource, ResourceType};
use shared::xds::snapshot::{Snapshot, SnapshotError};

pub mod document;

mod canonical;

mod telling;

/// The largest file that is read, in bytes.
const MOST: u64 = 4 << 20;

/// The most files that are read.
const FILES: usize = 1000;

/// The time between two looks. A change is published when the second one finds what the first did.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Envoy's API as `build.rs` found it.
static API: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.bin"));
    DescriptorPool::decode(bytes.as_slice()).map_err(|error| error.to_string())
});

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
    #[error("{}: {why}", path.display())]
    Inconsistent {
        /// The file of the resource that refers.
        path: PathBuf,
        /// Who refers to whom.
        why: SnapshotError,
    },
}

/// A folder, and what was read from it last.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    seen: BTreeMap<PathBuf, Seen>,
    files: BTreeMap<PathBuf, File>,
}

/// A file as one look found it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    text: Arc<str>,
    /// Who writes changes the time, even if the text is the same so far.
    modified: (i64, i64),
}

#[derive(Clone, Debug)]
struct File {
    text: Arc<str>,
    resources: Vec<Arc<Resource>>,
}

impl Folder {
    /// A folder that has not been read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), seen: BTreeMap::new(), files: BTreeMap::new() }
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
        let snapshot = together(&files)?;
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

/// The files in this folder that hold resources, by path.
fn look(folder: &Path) -> Result<BTreeMap<PathBuf, Seen>, FilesError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |why| FilesError::Unreadable { path, why }
    };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let ours =
            path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|own| ending == *own));
        // Hidden ones are those of editors, not yet whole.
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !ours || hidden {
            continue;
        }
        if found.len() == FILES {
            let why = std::io::Error::other(format!("there are more than {FILES} files"));
            return Err(unreadable(folder)(why));
        }
        let seen = see(&path).map_err(unreadable(&path))?;
        found.insert(path, seen);
    }
    if found.is_empty() { Err(FilesError::Empty { folder: folder.to_owned() }) } else { Ok(found) }
}

fn see(path: &Path) -> std::io::Result<Seen> {
    let mut text = String::new();
    let metadata = std::fs::metadata(path)?;
    // A pipe would never end, and a device may not either.
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    std::fs::File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST {
        return Err(std::io::Error::other(format!("it is larger than {MOST} bytes")));
    }
    Ok(Seen { text: text.into(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
}

fn parse(path: &Path, text: &str) -> Result<Vec<Arc<Resource>>, FilesError> {
    let broken = |place: String, why: String| FilesError::Broken { path: path.to_owned(), place, why };
    let json = path.extension().is_some_and(|ending| ending == "json");
    let resources = document::resources(text, json).map_err(|why| broken(String::new(), why))?;
    resources
        .into_iter()
        .enumerate()
        .map(|(number, value)| {
            let place = format!("resources[{number}]");
            let at = |inner: &str| match inner {
                "" => format!("{place}: "),
                inner if inner.starts_with('[') => format!("{place}{inner}: "),
                inner => format!("{place}.{inner}: "),
            };
            let any = any(value).map_err(|(inner, why)| broken(at(&inner), why))?;
            let resource = Resource::from_any(&any).map_err(|error| broken(at(""), error.to_string()))?;
            Ok(Arc::new(resource))
        })
        .collect()
}

/// The packed form of a resource. An error comes with the path in the resource.
fn any(mut value: Value) -> Result<Any, (String, String)> {
    let whole = |why: &str| (String::new(), why.to_owned());
    let api = API.as_ref().map_err(|error| whole(error))?;
    let kind = value.as_object_mut().and_then(|fields| fields.remove("@type"));
    let Some(Value::String(type_url)) = kind else {
        return Err(whole("no \"@type\": it says which message of Envoy's API this is"));
    };
    let name = type_url.rsplit('/').next().unwrap_or_default();
    let message = api.get_message_by_name(name).ok_or_else(|| {
        ("@type".to_owned(), telling::harmless(&format!("'{type_url}' is no message of Envoy's API")))
    })?;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let message = DynamicMessage::deserialize(message, tracked).map_err(|error| error.to_string());
    let message = message.map_err(|why| {
        let place = telling::place(&track.path());
        let secret = telling::is_secret(name, &place);
        (place, if secret { telling::near_a_secret(&why) } else { telling::harmless(&why) })
    })?;
    Ok(Any { value: canonical::encode(message), type_url })
}

fn together(files: &BTreeMap<PathBuf, File>) -> Result<Snapshot, FilesError> {
    let mut places: BTreeMap<(ResourceType, &str), &Path> = BTreeMap::new();
    for (path, file) in files {
        for resource in &file.resources {
            if let Some(first) = places.insert((resource.kind(), resource.name()), path) {
                let (first, second, kind) = (first.to_owned(), path.clone(), resource.kind());
                return Err(FilesError::Twice { first, second, kind, name: resource.name().to_string() });
            }
        }
    }
    Snapshot::new(files.values().flat_map(|file| &file.resources).cloned()).map_err(|why| {
        let (SnapshotError::Missing { from_kind: kind, from: name, .. }
        | SnapshotError::Duplicate { kind, name }) = &why;
        let path = places.get(&(*kind, name.as_str())).copied().unwrap_or(Path::new("")).to_owned();
        FilesError::Inconsistent { path, why }
    })
}
