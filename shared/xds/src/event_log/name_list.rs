//! A list of names, shortened for readers.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// How many names an event lists; the rest is counted.
const NAMES_SHOWN: usize = 16;

/// A list of names, shortened for readers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NameList {
    /// The first names in alphabetical order.
    pub names: Vec<Arc<str>>,
    /// How many more there are.
    pub more: usize,
}

impl NameList {
    /// Keeps the first names in alphabetical order and counts the others. Copies and allocates only what it keeps.
    pub fn new<'a, T>(names: impl IntoIterator<Item = &'a T>) -> Self
    where
        T: AsRef<str> + Clone + Into<Arc<str>> + 'a,
    {
        let mut first: Vec<&T> = Vec::new();
        let mut count = 0;
        for name in names {
            count += 1;
            let is_full = first.len() == NAMES_SHOWN;
            if is_full && first.last().is_some_and(|last| last.as_ref() <= name.as_ref()) {
                continue;
            }
            let at = first.partition_point(|earlier| earlier.as_ref() <= name.as_ref());
            if is_full {
                first.pop();
            }
            first.insert(at, name);
        }
        let names: Vec<Arc<str>> = first.into_iter().map(|name| name.clone().into()).collect();
        Self { more: count - names.len(), names }
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
