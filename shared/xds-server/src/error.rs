//! Why a folder cannot be served. Does not know how that is found out.

use std::path::PathBuf;

use mesh_xds::ResourceType;
use mesh_xds::snapshot::SnapshotError;

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
    #[error("{}: {field_path}{why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The path in the document, with a colon, if the error has one.
        field_path: String,
        /// What is wrong; for a document that does not parse with line and column.
        why: String,
    },
    /// Two files name the same resource.
    #[error("{} and {} both have the {} '{name}'; a name may stand once", first.display(), second.display(), kind.noun())]
    Duplicate {
        /// One file.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
        /// The resource's type.
        kind: ResourceType,
        /// The resource's name.
        name: String,
    },
    /// A resource refers to one that does not exist.
    #[error("{}: {why}{}", path.display(), next_step(why))]
    Inconsistent {
        /// The file of the resource that refers.
        path: PathBuf,
        /// The reference.
        why: SnapshotError,
    },
}

/// What else may be meant.
fn next_step(why: &SnapshotError) -> &'static str {
    match why {
        SnapshotError::Missing { to_kind: ResourceType::Cluster, .. } => {
            ", or name it with --bootstrap-cluster if Envoys have it from their bootstrap"
        }
        _ => "",
    }
}
