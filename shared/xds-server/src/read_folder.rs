//! One look at a folder: which files hold resources, their texts, and when they were modified.
//!
//! Does not know what the texts mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::follow::{Reading, text};

use crate::error::FilesError;

/// The largest file that is read, in bytes.
const MAX_LENGTH: u64 = 4 << 20;

/// The most files that are read.
const FILES: usize = 1000;

/// Reads the texts of all resource files in this folder, by path.
pub(super) fn read_folder(folder: &Path) -> Result<Reading<BTreeMap<PathBuf, Arc<str>>>, FilesError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |why| FilesError::Unreadable { path, why }
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let ours =
            path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|own| ending == *own));
        // Editors write hidden files, which are not complete yet.
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !ours || hidden {
            continue;
        }
        if paths.len() == FILES {
            let why = std::io::Error::other(format!("there are more than {FILES} files"));
            return Err(unreadable(folder)(why));
        }
        paths.push(path);
    }
    if paths.is_empty() {
        return Err(FilesError::Empty { folder: folder.to_owned() });
    }
    // The order of a folder's entries is not stable.
    paths.sort_unstable();
    let mut found = Reading { content: BTreeMap::new(), modified: Vec::new() };
    for path in paths {
        let Reading { content, modified } = text(&path, MAX_LENGTH).map_err(unreadable(&path))?;
        found.content.insert(path, content.into());
        found.modified.extend(modified);
    }
    Ok(found)
}
