//! Sets and maps of resource names, as every stream has them by the thousand.
//!
//! A first request for a thousand names looks each of them up a dozen times, so hashing is most of what a new client
//! costs. The standard library's hash is made for any key and any enemy; this one is several times as fast for short
//! strings, and is seeded at random too, so that nobody can choose names that fall together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A set of names.
pub type NameSet = HashSet<Arc<str>, ahash::RandomState>;

/// Something for each of some names.
pub type NameMap<V> = HashMap<Arc<str>, V, ahash::RandomState>;
