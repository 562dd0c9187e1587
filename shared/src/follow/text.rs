//! Reading a file of limited size.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::source::Reading;

/// Reads a text file of at most `limit` bytes.
///
/// # Errors
/// If it cannot be read, is not a file, is not UTF-8, or is larger.
pub fn text(path: &Path, limit: u64) -> io::Result<Reading<String>> {
    // The time is taken first: if the file is written during the read, the next look finds a newer time.
    let metadata = fs::metadata(path)?;
    // A pipe may never end, and opening one may block.
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut content = String::new();
    File::open(path)?.take(limit + 1).read_to_string(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(Reading { content, modified: vec![metadata.modified()?] })
}
