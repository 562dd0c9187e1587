//! A list of names, shortened for readers.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// How many names an event lists; the rest is counted.
const NAMES_SHOWN: usize = 16;

/// A list of names, shortened for readers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NameList {
    /// The first names, sorted.
    pub names: Vec<Arc<str>>,
    /// How many more there are.
    pub more: usize,
}

impl NameList {
    /// Shortens a list.
    pub fn new(mut names: Vec<Arc<str>>) -> Self {
        let more = names.len().saturating_sub(NAMES_SHOWN);
        if more > 0 {
            // Which names of a long list are shown does not matter, so it is not sorted first.
            names.truncate(NAMES_SHOWN);
        }
        names.sort_unstable();
        Self { names, more }
    }
}

impl fmt::Display for NameList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}", self.names.join(", "))?;
        if self.more > 0 {
            write!(f, ", and {} more", self.more)?;
        }
        f.write_str("]")
    }
}
