//! Temporary folders, for this user alone, that go with their owner.
//!
//! ```text
//! Folder::new("mesh-envoy-") ── sweeps away what dead owners of such folders left
//!        └── makes one, and holds a lock on a file in it until it is dropped
//! ```
//!
//! Whoever is killed outright cleans nothing up, but the kernel lets its locks go. So the next one to make such a
//! folder knows which are orphans, however it was that their owners died. A process number in the name would say
//! less: numbers are given again, and in another container the same one means somebody else.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tempfile::TempDir;

/// The file that says by its lock that the owner lives.
const OWNER: &str = ".owner";

/// A temporary folder. It and what is in it go when this is dropped.
#[derive(Debug)]
pub struct TempFolder {
    folder: TempDir,
    _alive: File,
}

impl TempFolder {
    /// Makes one whose name begins with `prefix`, and removes those that dead owners left under that prefix.
    ///
    /// # Errors
    /// If the system gives us none. That an orphan cannot be removed is no error.
    pub fn new(prefix: &str) -> io::Result<Self> {
        Self::under(&std::env::temp_dir(), prefix)
    }

    fn under(parent: &Path, prefix: &str) -> io::Result<Self> {
        if let Err(error) = sweep(parent, prefix) {
            tracing::debug!(%error, "cannot look for old folders in {}", parent.display());
        }
        let private = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(parent)?;
        // It gets its name when it is locked: who sweeps at this moment finds it locked, or not at all. On a file
        // system that knows no locks it never does, and nobody will sweep.
        let unnamed = folder.path().join(".owner-to-be");
        let alive = File::create_new(&unnamed)?;
        if alive.lock().is_ok() {
            fs::rename(unnamed, folder.path().join(OWNER))?;
        }
        Ok(Self { folder, _alive: alive })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders of this user whose owner is gone.
fn sweep(parent: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let Ok(entry) = entry else { continue };
        let named = entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
        // Not followed, should somebody have put a link there.
        let ours = |metadata: fs::Metadata| {
            metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw()
        };
        if named && entry.metadata().is_ok_and(ours) && is_orphan(&entry.path()) {
            // Another one who sweeps may have been faster.
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::debug!(%error, "cannot remove {}", entry.path().display());
            }
        }
    }
    Ok(())
}

fn is_orphan(folder: &Path) -> bool {
    File::open(folder.join(OWNER)).is_ok_and(|owner| owner.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as somebody leaves it who is killed.
    fn orphan(parent: &Path, prefix: &str) -> std::path::PathBuf {
        let TempFolder { folder, _alive } = TempFolder::under(parent, prefix).unwrap();
        fs::write(folder.path().join("log"), "last words").unwrap();
        folder.keep()
    }

    #[test]
    fn what_the_dead_left_is_swept_away_and_the_living_keep_theirs() {
        let parent = tempfile::tempdir().unwrap();
        let living = TempFolder::under(parent.path(), "one-").unwrap();
        let dead = orphan(parent.path(), "one-");
        let other = orphan(parent.path(), "two-");
        let stranger = parent.path().join("one-without-owner");
        fs::create_dir(&stranger).unwrap();
        std::os::unix::fs::symlink(&other, parent.path().join("one-link")).unwrap();
        let next = TempFolder::under(parent.path(), "one-").unwrap();
        assert!(!dead.exists());
        for path in [living.path(), next.path(), &other, &stranger] {
            assert!(path.exists(), "{} is gone", path.display());
        }
    }

    #[test]
    fn a_folder_is_private_and_goes_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let folder = TempFolder::under(parent.path(), "one-").unwrap();
        assert_eq!(folder.path().metadata().unwrap().mode() & 0o777, 0o700);
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }
}
