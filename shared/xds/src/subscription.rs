//! The subscription of one client to one type: names, the wildcard, and the meaning of an empty list.
//!
//! The wildcard has two spellings: `*`, and, in the first requests of a stream only, an empty list (*legacy*).
//! Spec: ["How the client specifies what resources to
//! return"](https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#how-the-client-specifies-what-resources-to-return).

use std::collections::HashSet;
use std::sync::Arc;

use crate::names::NameSet;

const WILDCARD: &str = "*";

/// How much memory the names of one subscription may take, in bytes by [`Subscription::size`]. Several
/// hundred thousand names of a usual length fit; a client that subscribes to more is broken or hostile.
pub const SUBSCRIPTION_LIMIT: usize = 64 * 1024 * 1024;

/// Roughly the memory that a name takes in addition to its characters.
const NAME_OVERHEAD: usize = 64;

/// The resources of one type that a stream's client subscribes to.
#[derive(Debug, Default)]
pub struct Subscription {
    names: NameSet,
    size: usize,
    wildcard: bool,
    /// Whether a request ever had a name (or `*`); from then on an empty list means "nothing".
    has_named: bool,
    /// Whether the client ever sent a request for the type.
    started: bool,
}

/// How a request changed a subscription.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SubscriptionChange {
    /// The request subscribed to the wildcard.
    pub wildcard_added: bool,
    /// Names that were not subscribed to before (state of the world), or that the request listed (delta).
    pub added: Vec<Arc<str>>,
    /// Names that the request unsubscribed. Includes names that the wildcard still covers.
    pub removed: Vec<Arc<str>>,
    /// The request unsubscribed from the wildcard.
    pub wildcard_removed: bool,
}

impl SubscriptionChange {
    /// Whether the request changed the subscription, or asked for something again.
    pub fn is_change(&self) -> bool {
        *self != Self::default()
    }
}

impl Subscription {
    /// Whether the client subscribes to the resource with this name.
    pub fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Whether the client subscribes to every resource of the type.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The names that the client subscribes to.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter()
    }

    /// How many names the client subscribes to.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Roughly how much memory the names take, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether the client subscribes to nothing.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.wildcard
    }

    /// Whether the client ever sent a request for the type.
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// State of the world: `names` is the complete list, and replaces the previous one.
    ///
    /// `legacy` says whether an empty list may be read as the wildcard. `intern` turns a name into a
    /// shared string.
    pub fn replace(
        &mut self,
        names: &[String],
        legacy: bool,
        intern: impl Fn(&str) -> Arc<str>,
    ) -> SubscriptionChange {
        self.started = true;
        self.has_named |= !names.is_empty();
        let has_star = names.iter().any(|name| name == WILDCARD);
        let wildcard = has_star || (names.is_empty() && !self.has_named && legacy);
        let mut change = SubscriptionChange {
            wildcard_added: wildcard && !self.wildcard,
            wildcard_removed: self.wildcard && !wildcard,
            ..SubscriptionChange::default()
        };
        self.wildcard = wildcard;
        let unchanged = !has_star
            && names.len() == self.names.len()
            && names.iter().all(|name| self.names.contains(&**name));
        if unchanged {
            // By far the most frequent request: an ACK, which repeats the list as it was.
            return change;
        }
        let complete: HashSet<&str> =
            names.iter().map(String::as_str).filter(|name| *name != WILDCARD).collect();
        self.names.retain(|name| {
            let kept = complete.contains(&**name);
            if !kept {
                self.size -= size_of(name);
                change.removed.push(Arc::clone(name));
            }
            kept
        });
        for name in complete {
            if !self.names.contains(name) {
                let name = intern(name);
                self.size += size_of(&name);
                change.added.push(Arc::clone(&name));
                self.names.insert(name);
            }
        }
        change
    }

    /// Delta: adds names to the subscription, and removes names from it.
    ///
    /// A name that is subscribed to again is listed in [`SubscriptionChange::added`] again, because the client
    /// may have lost the resource. A name that is unsubscribed without a subscription is not listed.
    pub fn update(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        legacy: bool,
        intern: impl Fn(&str) -> Arc<str>,
    ) -> SubscriptionChange {
        let mut change = SubscriptionChange::default();
        if !self.started && subscribe.is_empty() && legacy {
            self.wildcard = true;
            change.wildcard_added = true;
        }
        self.started = true;
        for name in subscribe {
            if name == WILDCARD {
                change.wildcard_added |= !self.wildcard;
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
            change.added.push(name);
        }
        for name in unsubscribe {
            if name == WILDCARD {
                change.wildcard_removed |= self.wildcard;
                self.wildcard = false;
            } else if let Some(name) = self.names.take(&**name) {
                self.size -= size_of(&name);
                change.removed.push(name);
            }
        }
        change
    }
}

fn size_of(name: &str) -> usize {
    name.len() + NAME_OVERHEAD
}
