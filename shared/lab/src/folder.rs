//! Folders of an exercise's files: copied, and known again by what is in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

/// The most files of an exercise.
const FILES: usize = 100;

/// The largest of them, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The files in a folder and below, by their paths in it, in order. Hidden files and editors' copies are none.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let name = entry?.file_name();
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(b".") || bytes.ends_with(b"~") || bytes == b"expected-failure.txt" {
                continue;
            }
            let path = below.join(&name);
            let kind = fs::metadata(folder.join(&path))?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && kind.len() <= MAX_FILE_BYTES {
                found.push(path);
            } else {
                let what = format!(
                    "{} is no file, or larger than {MAX_FILE_BYTES} bytes",
                    folder.join(path).display()
                );
                return Err(io::Error::other(what));
            }
        }
        if found.len() + open.len() > FILES {
            return Err(io::Error::other(format!("{} has more than {FILES} files", folder.display())));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Copies the files of one folder over those of another.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for file in files(from)? {
        let target = to.join(&file);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        // Read and written, so that a copy is ours to write to, whatever the original's mode is.
        fs::write(target, fs::read(from.join(file))?)?;
    }
    Ok(())
}

/// What a folder's files are, in one number; the same for the same names and contents.
pub(super) fn fingerprint(folder: &Path) -> io::Result<String> {
    let mut hash = Xxh3::new();
    for file in files(folder)? {
        let (name, text) = (file.to_string_lossy().into_owned(), fs::read(folder.join(&file))?);
        for part in [name.as_bytes(), &text] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(format!("{:016x}", hash.digest()))
}
