//! What a client asked for, of one type: names, the wildcard, and what an empty list means.
//!
//! Source: "How the client specifies what resources to return" in Envoy's xDS protocol. The wildcard
//! has two spellings: `*`, and, in the first requests of a stream only, an empty list (*legacy*).

use std::collections::HashSet;
use std::sync::Arc;

use super::names::NameSet;

const STAR: &str = "*";

/// How much memory the names of one subscription may take, in bytes by [`Subscription::size`]. Several
/// hundred thousand names of a usual length fit; a client that keeps adding more means us no good.
pub const SUBSCRIPTION_LIMIT: usize = 64 * 1024 * 1024;

/// What keeping a name costs beside its letters, roughly.
const NAME_OVERHEAD: usize = 64;

/// The resources of one type that a stream's client subscribes to.
#[derive(Debug, Default)]
pub struct Subscription {
    names: NameSet,
    size: usize,
    wildcard: bool,
    /// Whether a name (or `*`) was ever given; from then on an empty list means "nothing".
    named: bool,
    /// Whether the client ever asked for the type at all.
    begun: bool,
}

/// What changed by a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The wildcard was taken up with this request.
    pub everything: bool,
    /// Names that were not subscribed to before (state of the world), or that were listed (delta).
    pub names: Vec<Arc<str>>,
    /// Names that no longer are. A name that the wildcard still covers is listed nevertheless.
    pub dropped: Vec<Arc<str>>,
    /// The wildcard was given up with this request.
    pub dropped_everything: bool,
}

impl Asked {
    /// Whether the request changed what the client is to be told.
    pub fn is_something(&self) -> bool {
        *self != Self::default()
    }
}

impl Subscription {
    /// Whether the client wants the resource with this name.
    pub fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Whether the client wants whatever there is.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The names that the client gave.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter()
    }

    /// How many names the client gave.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// About how much memory the names take, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether the client asked for anything.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.wildcard
    }

    /// Whether the client ever asked for the type.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// State of the world: `names` is the complete list, whatever was asked before.
    ///
    /// `legacy` says whether an empty list may be read as the wildcard. `intern` turns a name into a
    /// shared string.
    pub fn replace(&mut self, names: &[String], legacy: bool, intern: impl Fn(&str) -> Arc<str>) -> Asked {
        self.begun = true;
        self.named |= !names.is_empty();
        let star = names.iter().any(|name| name == STAR);
        let wildcard = star || (names.is_empty() && !self.named && legacy);
        let mut asked = Asked {
            everything: wildcard && !self.wildcard,
            dropped_everything: self.wildcard && !wildcard,
            ..Asked::default()
        };
        self.wildcard = wildcard;
        let unchanged =
            !star && names.len() == self.names.len() && names.iter().all(|name| self.names.contains(&**name));
        if unchanged {
            // By far the most frequent request: an ACK, which repeats the list as it was.
            return asked;
        }
        let complete: HashSet<&str> = names.iter().map(String::as_str).filter(|name| *name != STAR).collect();
        self.names.retain(|name| {
            let kept = complete.contains(&**name);
            if !kept {
                self.size -= size_of(name);
                asked.dropped.push(Arc::clone(name));
            }
            kept
        });
        for name in complete {
            if !self.names.contains(name) {
                let name = intern(name);
                self.size += size_of(&name);
                asked.names.push(Arc::clone(&name));
                self.names.insert(name);
            }
        }
        asked
    }

    /// Delta: names are added to and taken from what was asked before.
    ///
    /// A name that is subscribed to again is listed in [`Asked::names`] again, for the client may have
    /// lost it. One that is dropped though it was never subscribed to is not listed.
    pub fn adjust(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        legacy: bool,
        intern: impl Fn(&str) -> Arc<str>,
    ) -> Asked {
        let mut asked = Asked::default();
        if !self.begun && subscribe.is_empty() && legacy {
            self.wildcard = true;
            asked.everything = true;
        }
        self.begun = true;
        for name in subscribe {
            if name == STAR {
                asked.everything |= !self.wildcard;
                self.wildcard = true;
                continue;
            }
            let name = match self.names.get(&**name) {
                Some(known) => Arc::clone(known),
                None => {
                    let name = intern(name);
                    self.size += size_of(&name);
                    self.names.insert(Arc::clone(&name));
                    name
                }
            };
            asked.names.push(name);
        }
        for name in unsubscribe {
            if name == STAR {
                asked.dropped_everything |= self.wildcard;
                self.wildcard = false;
            } else if let Some(name) = self.names.take(&**name) {
                self.size -= size_of(&name);
                asked.dropped.push(name);
            }
        }
        asked
    }
}

fn size_of(name: &str) -> usize {
    name.len() + NAME_OVERHEAD
}
