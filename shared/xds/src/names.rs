//! Sets and maps of resource names.
//!
//! A first request for a thousand names looks each of them up a dozen times, so hashing is most of the cost of
//! a new client. The standard library's SipHash is several times slower for short strings than this hash, which is
//! seeded at random too, so that a client cannot choose names that collide.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A set of names.
pub(crate) type NameSet = HashSet<Arc<str>, ahash::RandomState>;

/// A map from names to `V`.
pub(crate) type NameMap<V> = HashMap<Arc<str>, V, ahash::RandomState>;
