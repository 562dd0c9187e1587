//! One look at a folder: which files hold resources, what stands in them, when they were changed.
//!
//! Does not know what the texts mean.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::FilesError;

/// The largest file that is read, in bytes.
const MOST: u64 = 4 << 20;

/// The most files that are read.
const FILES: usize = 1000;

/// A file as one look found it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) text: Arc<str>,
    /// Who writes changes the time, even if the text is the same so far.
    modified: (i64, i64),
}

/// The files in this folder that hold resources, by path.
pub(super) fn look(folder: &Path) -> Result<BTreeMap<PathBuf, Seen>, FilesError> {
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
