//! Names that the server has to compare with the snapshot.

use std::sync::Arc;

use crate::names::NameSet;

/// Names whose resource may differ from what the client has.
#[derive(Debug, Default)]
pub(crate) enum DirtyNames {
    /// None.
    #[default]
    None,
    /// These names.
    Names(NameSet),
    /// Every name.
    All,
}

impl DirtyNames {
    /// Adds names.
    pub(crate) fn extend(&mut self, more: impl IntoIterator<Item = Arc<str>>) {
        match self {
            Self::All => {}
            Self::Names(names) => names.extend(more),
            Self::None => {
                let names: NameSet = more.into_iter().collect();
                if !names.is_empty() {
                    *self = Self::Names(names);
                }
            }
        }
    }

    /// Whether no name is dirty.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Whether this name is dirty.
    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Names(names) => names.contains(name),
            Self::All => true,
        }
    }

    /// Whether these names, which are the rest of `before`, are fewer than before.
    pub(crate) fn has_shrunk_from(&self, before: &Self) -> bool {
        !matches!((before, self), (Self::Names(before), Self::Names(left)) if before.len() == left.len())
    }
}
