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
//!               every half second         └── an error: told once, and what was published stays
//! ```
//!
//! The names of fields and messages are those of Envoy's API, whose description is compiled in; a message in an
//! `Any` may be any that Envoy 1.3x knows, whether this control plane looks into it or not.
//! Source: "Dynamic configuration from filesystem" in Envoy's documentation.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde::Deserialize;
use serde_json::Value;
use shared::xds::resource::{Resource, ResourceType};
use shared::xds::snapshot::{Snapshot, SnapshotError};

/// The largest file that is read, in bytes.
const MOST: u64 = 4 << 20;

/// The most files that are read.
const FILES: usize = 1000;

const LOOK_EVERY: Duration = Duration::from_millis(500);

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Envoy's own files may have it. A version here is a hash of what it names.
    #[serde(default, rename = "version_info")]
    _version_info: Option<Value>,
    resources: Vec<Value>,
}

/// A folder, and what was read from it last.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
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
        Self { path: path.into(), files: BTreeMap::new() }
    }

    /// Reads the folder, and returns what it holds if that is not what was read last.
    ///
    /// Files whose text is the same are not parsed again, so that their resources keep their versions.
    ///
    /// # Errors
    /// [`FilesError`]; what was read last is still known then.
    pub fn read(&mut self) -> Result<Option<Snapshot>, FilesError> {
        let texts = texts(&self.path)?;
        let same =
            |(path, text): (&PathBuf, &String)| self.files.get(path).is_some_and(|file| *file.text == **text);
        if texts.len() == self.files.len() && texts.iter().all(same) {
            return Ok(None);
        }
        let mut files = BTreeMap::new();
        for (path, text) in texts {
            let file = match self.files.get(&path) {
                Some(known) if *known.text == *text => known.clone(),
                _ => File { resources: parse(&path, &text)?, text: text.into() },
            };
            files.insert(path, file);
        }
        let snapshot = together(&files)?;
        self.files = files;
        Ok(Some(snapshot))
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

/// The texts of the files in this folder that hold resources, by path.
fn texts(folder: &Path) -> Result<BTreeMap<PathBuf, String>, FilesError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |why| FilesError::Unreadable { path, why }
    };
    let mut texts = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let ours =
            path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|own| ending == *own));
        // Hidden ones are those of editors, not yet whole.
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !ours || hidden {
            continue;
        }
        if texts.len() == FILES {
            let why = std::io::Error::other(format!("there are more than {FILES} files"));
            return Err(unreadable(folder)(why));
        }
        let text = text(&path).map_err(unreadable(&path))?;
        texts.insert(path, text);
    }
    if texts.is_empty() { Err(FilesError::Empty { folder: folder.to_owned() }) } else { Ok(texts) }
}

fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    // A pipe would never end, and a device may not either.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    std::fs::File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST {
        return Err(std::io::Error::other(format!("it is larger than {MOST} bytes")));
    }
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Arc<Resource>>, FilesError> {
    let broken = |place: String, why: String| FilesError::Broken { path: path.to_owned(), place, why };
    // JSON is YAML too.
    let document: Document = serde_saphyr::from_str(text)
        .map_err(|error| broken(String::new(), error.without_snippet().to_string()))?;
    let resources = document.resources.into_iter().enumerate();
    resources
        .map(|(number, value)| {
            let place = format!("resources[{number}]");
            let at = |inner: &str| match inner {
                "" | "." => format!("{place}: "),
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
    let message = api
        .get_message_by_name(name)
        .ok_or_else(|| ("@type".to_owned(), format!("'{type_url}' is no message of Envoy's API")))?;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let message = DynamicMessage::deserialize(message, tracked).map_err(|error| error.to_string());
    let message = message.map_err(|why| (track.path().to_string(), why))?;
    Ok(Any { type_url, value: message.encode_to_vec() })
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
