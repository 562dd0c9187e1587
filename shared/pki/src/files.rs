//! Putting certificates and keys on a disk: the right modes, whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::KeyPem;

/// Files that belong together, to be written into one folder.
///
/// Each is written under another name first, with its mode set before anything is in it, and given its
/// name when all of them are on the disk. So nobody finds half a file, and no key was readable for a moment.
#[derive(Debug, Default)]
#[must_use = "nothing is written before write() is called"]
pub struct Files<'a>(Vec<(&'static str, Content<'a>)>);

#[derive(Debug)]
enum Content<'a> {
    Public(&'a str),
    Secret(&'a KeyPem),
}

/// Why the files were not written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// There are such files already, and nobody said to replace them.
    #[error("{} is there already: choose another folder with --out, or replace what is there with --force", path.display())]
    Exists {
        /// The first of them.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}: check the disk and its permissions, or choose another folder", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl<'a> Files<'a> {
    /// Adds a file that everybody may read.
    pub fn public(mut self, name: &'static str, text: &'a str) -> Self {
        self.0.push((name, Content::Public(text)));
        self
    }

    /// Adds a key: a file that only its owner may read (mode 0600).
    pub fn secret(mut self, name: &'static str, key: &'a KeyPem) -> Self {
        self.0.push((name, Content::Secret(key)));
        self
    }

    /// Writes all of them into `folder`, which is made if it is not there; returns their paths.
    ///
    /// # Errors
    /// [`FilesError::Exists`] unless `replace`; then nothing was changed. [`FilesError::Io`]: nothing was changed if
    /// that happened while writing; if it was at the last step, some may have their names already.
    pub fn write(self, folder: &Path, replace: bool) -> Result<Vec<PathBuf>, FilesError> {
        let paths: Vec<_> = self.0.iter().map(|(name, _)| folder.join(name)).collect();
        // A link counts, wherever it points.
        let there = paths.iter().find(|path| !replace && path.symlink_metadata().is_ok());
        if let Some(path) = there {
            return Err(FilesError::Exists { path: path.clone() });
        }
        fs::create_dir_all(folder).map_err(io_error("create the folder", folder))?;
        let staged =
            self.0.iter().map(|(_, content)| content.stage(folder)).collect::<Result<Vec<_>, _>>()?;
        for (file, path) in staged.into_iter().zip(&paths) {
            if replace {
                file.persist(path).map_err(|error| io_error("replace", path)(error.error))?;
            } else {
                // Fails if somebody else has made it since we looked.
                file.persist_noclobber(path).map_err(|error| match error.error {
                    taken if taken.kind() == io::ErrorKind::AlreadyExists => {
                        FilesError::Exists { path: path.clone() }
                    }
                    other => io_error("write", path)(other),
                })?;
            }
        }
        Ok(paths)
    }
}

impl Content<'_> {
    /// Writes it beside its place, under a name that goes away with the value.
    fn stage(&self, folder: &Path) -> Result<NamedTempFile, FilesError> {
        let (mode, text) = match self {
            Self::Public(text) => (0o644, *text),
            Self::Secret(key) => (0o600, key.expose()),
        };
        let failed = || io_error("write a file in", folder);
        let mut file = tempfile::Builder::new()
            .prefix(".pki-")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(folder)
            .map_err(failed())?;
        file.write_all(text.as_bytes()).map_err(failed())?;
        file.as_file().sync_all().map_err(failed())?;
        Ok(file)
    }
}

/// For `map_err`.
fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Io { doing, path, source }
}
