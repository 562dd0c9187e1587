//! A set of resources that fit together. One that exists is consistent: there is no `validate`.
//!
//! Knows names, references and versions. Does not know clients.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use super::frame::Dialect;
use super::names::NameMap;
use super::reference::Reference;
use super::resource::{PerType, Resource, ResourceType, Version};

/// Why resources do not make a snapshot; each error names both ends of what is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Two resources of one type have one name.
    #[error("two {kind} resources are named '{name}'; a name may stand once")]
    Duplicate {
        /// Their type.
        kind: ResourceType,
        /// Their name.
        name: String,
    },
    /// A resource refers to one that is not there.
    #[error("{} '{from}' refers to {} '{to}', which is not in the snapshot; add it or drop the reference",
        .from_kind.noun(), .to_kind.noun())]
    Missing {
        /// The type of the resource that refers.
        from_kind: ResourceType,
        /// Its name.
        from: String,
        /// The type of what is missing.
        to_kind: ResourceType,
        /// The name of what is missing.
        to: String,
    },
}

/// All resources of one type.
#[derive(Debug, Default)]
pub struct Resources {
    by_name: NameMap<Arc<Resource>>,
    version: Version,
    /// All of them as response fields, made when first needed and then shared by every stream.
    encoded: [OnceLock<Bytes>; 2],
}

impl Resources {
    /// The resource with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.by_name.get(name)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_name.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The version of the whole set.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Every resource as a field of a response in this dialect: encoded once, shared by all.
    pub fn encoded(&self, dialect: Dialect) -> Bytes {
        let all = || {
            let mut fields: Vec<&[u8]> = self.iter().map(|resource| dialect.field(resource)).collect();
            // Sorted, so that two runs write the same bytes.
            fields.sort_unstable();
            let mut out = BytesMut::with_capacity(fields.iter().map(|field| field.len()).sum());
            fields.iter().for_each(|field| out.extend_from_slice(field));
            out.freeze()
        };
        self.encoded[dialect as usize].get_or_init(all).clone()
    }
}

/// A consistent set of resources.
#[derive(Debug, Default)]
pub struct Snapshot {
    types: PerType<Resources>,
    /// Clusters that clients have from elsewhere.
    outside: Box<[Box<str>]>,
}

impl TryFrom<Vec<Resource>> for Snapshot {
    type Error = SnapshotError;

    fn try_from(resources: Vec<Resource>) -> Result<Self, SnapshotError> {
        Self::new(resources)
    }
}

impl Snapshot {
    /// Puts resources together.
    ///
    /// # Errors
    /// A name that stands twice, or a reference to what is not there.
    pub fn new(resources: impl IntoIterator<Item = impl Into<Arc<Resource>>>) -> Result<Self, SnapshotError> {
        Self::beside(resources, &[])
    }

    /// Puts resources together that may also refer to `outside`: clusters which clients have from
    /// elsewhere, such as their bootstrap.
    ///
    /// # Errors
    /// A name that stands twice, or a reference to what is neither there nor `outside`.
    pub fn beside(
        resources: impl IntoIterator<Item = impl Into<Arc<Resource>>>,
        outside: &[&str],
    ) -> Result<Self, SnapshotError> {
        let mut types = PerType::<Resources>::default();
        for resource in resources {
            let resource: Arc<Resource> = resource.into();
            let (kind, name) = (resource.kind(), Arc::clone(resource.name()));
            if types[kind].by_name.insert(Arc::clone(&name), resource).is_some() {
                return Err(SnapshotError::Duplicate { kind, name: name.to_string() });
            }
        }
        let outside = outside.iter().map(|&name| name.into()).collect();
        let mut snapshot = Self { types, outside };
        snapshot.check()?;
        snapshot.tie_endpoints_to_clusters();
        for kind in ResourceType::ALL {
            let version = snapshot.types[kind].iter().fold(Version::NONE, |sum, one| sum.with(one.version()));
            snapshot.types[kind].version = version;
        }
        Ok(snapshot)
    }

    fn check(&self) -> Result<(), SnapshotError> {
        // In order of names, so that the same mistake gives the same error in every run.
        for (_, resources) in self.types.iter() {
            let mut referring: Vec<_> = resources.iter().filter(|one| !one.refers().is_empty()).collect();
            referring.sort_unstable_by_key(|one| Arc::clone(one.name()));
            for from in referring {
                if let Some(to) = from.refers().iter().find(|to| !self.leads_somewhere(to)) {
                    return Err(SnapshotError::Missing {
                        from_kind: from.kind(),
                        from: from.name().to_string(),
                        to_kind: to.kind,
                        to: to.name.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether what this refers to is here, or is a cluster that clients have from elsewhere.
    pub fn leads_somewhere(&self, to: &Reference) -> bool {
        self.types[to.kind].get(&to.name).is_some()
            || to.kind == ResourceType::Cluster && self.outside.iter().any(|name| **name == *to.name)
    }

    /// Makes the version of endpoints change with their cluster.
    ///
    /// Envoy warms a changed cluster as if it were new, and waits for its endpoints to be sent again
    /// even if they are the same (15 s, if nobody does). Since everything else here follows from
    /// versions, a version that covers both makes every stream do the right thing, a reconnecting
    /// one included. Source: "Resource warming" in Envoy's xDS protocol.
    fn tie_endpoints_to_clusters(&mut self) {
        let mut salts: NameMap<Version> = NameMap::default();
        for cluster in self.types[ResourceType::Cluster].iter() {
            for to in cluster.refers().iter().filter(|to| to.kind == ResourceType::Endpoints) {
                let salt = salts.entry(Arc::clone(&to.name)).or_default();
                *salt = salt.with(cluster.content());
            }
        }
        for resource in self.types[ResourceType::Endpoints].by_name.values_mut() {
            let Some(salt) = salts.get(resource.name()) else { continue };
            // Endpoints taken over from an earlier snapshot are mostly tied already.
            if resource.version() != resource.content().salted(*salt) {
                *resource = Arc::new(resource.salted(*salt));
            }
        }
    }

    /// All resources of a type.
    pub fn of(&self, kind: ResourceType) -> &Resources {
        &self.types[kind]
    }

    /// One resource.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.types[kind].get(name)
    }

    /// All resources; taking them over into the next snapshot costs no encoding.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.types.iter().flat_map(|(_, resources)| resources.iter())
    }

    /// The names that differ from `before`: added, changed or removed.
    pub fn changes_since(&self, before: &Self) -> PerType<Vec<Arc<str>>> {
        PerType::from_fn(|kind| {
            let (old, new) = (&before.types[kind], &self.types[kind]);
            if old.version == new.version && old.len() == new.len() {
                return Vec::new();
            }
            let differs = |one: &&Arc<Resource>| {
                old.get(one.name()).is_none_or(|other| other.version() != one.version())
            };
            let gone = |one: &&Arc<Resource>| new.get(one.name()).is_none();
            let changed = new.iter().filter(differs).chain(old.iter().filter(gone));
            changed.map(|one| Arc::clone(one.name())).collect()
        })
    }
}
