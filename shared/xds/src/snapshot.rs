//! A consistent set of resources. There is no `validate`: an inconsistent set never becomes a [`Snapshot`].
//!
//! Clients are the subject of `cache.rs` and `stream_state.rs`.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use crate::names::NameMap;
use crate::references::Reference;
use crate::resource::Resource;
use crate::resource_type::{PerType, ResourceType};
use crate::variant::XdsVariant;
use crate::version::Version;

/// Why resources are not a consistent snapshot. Each error names both resources.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Two resources of one type have one name.
    #[error("two {kind} resources are named '{name}'; give each its own name")]
    Duplicate {
        /// Their type.
        kind: ResourceType,
        /// Their name.
        name: String,
    },
    /// A resource refers to one that does not exist.
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

impl SnapshotError {
    /// The type and name of the resource that has to be corrected.
    pub fn resource(&self) -> (ResourceType, &str) {
        match self {
            Self::Duplicate { kind, name } | Self::Missing { from_kind: kind, from: name, .. } => {
                (*kind, name)
            }
        }
    }
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

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_name.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The version of the whole set.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Every resource as a field of a response of this variant: encoded once, shared by all streams.
    pub fn encoded(&self, variant: XdsVariant) -> Bytes {
        let all = || {
            let mut fields: Vec<&[u8]> = self.iter().map(|resource| resource.field(variant)).collect();
            // Sorted, so that two runs write the same bytes.
            fields.sort_unstable();
            let mut out = BytesMut::with_capacity(fields.iter().map(|field| field.len()).sum());
            fields.iter().for_each(|field| out.extend_from_slice(field));
            out.freeze()
        };
        self.encoded[variant as usize].get_or_init(all).clone()
    }
}

/// A consistent set of resources.
#[derive(Debug, Default)]
pub struct Snapshot {
    types: PerType<Resources>,
    /// Clusters that clients have from elsewhere.
    external_clusters: Box<[Box<str>]>,
}

impl TryFrom<Vec<Resource>> for Snapshot {
    type Error = SnapshotError;

    fn try_from(resources: Vec<Resource>) -> Result<Self, SnapshotError> {
        Self::new(resources)
    }
}

impl Snapshot {
    /// Makes a snapshot of these resources.
    ///
    /// # Errors
    /// Two resources of one type and name, or a reference to a resource that is not here.
    pub fn new(resources: impl IntoIterator<Item = impl Into<Arc<Resource>>>) -> Result<Self, SnapshotError> {
        Self::with_external_clusters(resources, &[])
    }

    /// Makes a snapshot whose resources may also refer to `external` clusters: clusters that clients have from
    /// elsewhere, such as their bootstrap.
    ///
    /// # Errors
    /// Two resources of one type and name, or a reference to a resource that is neither here nor `external`.
    pub fn with_external_clusters(
        resources: impl IntoIterator<Item = impl Into<Arc<Resource>>>,
        external_clusters: &[&str],
    ) -> Result<Self, SnapshotError> {
        let mut types = PerType::<Resources>::default();
        for resource in resources {
            let resource: Arc<Resource> = resource.into();
            let (kind, name) = (resource.kind(), Arc::clone(resource.name()));
            if types[kind].by_name.insert(Arc::clone(&name), resource).is_some() {
                return Err(SnapshotError::Duplicate { kind, name: name.to_string() });
            }
        }
        let external_clusters = external_clusters.iter().map(|&name| name.into()).collect();
        let mut snapshot = Self { types, external_clusters };
        snapshot.check()?;
        snapshot.salt_endpoint_versions();
        for kind in ResourceType::ALL {
            let version = snapshot.types[kind].iter().fold(Version::NONE, |sum, one| sum.with(one.version()));
            snapshot.types[kind].version = version;
        }
        Ok(snapshot)
    }

    fn check(&self) -> Result<(), SnapshotError> {
        // Sorted by name, so that the same input gives the same error in every run.
        for (_, resources) in self.types.iter() {
            let mut referring: Vec<_> = resources.iter().filter(|one| !one.references().is_empty()).collect();
            referring.sort_unstable_by_key(|one| Arc::clone(one.name()));
            for from in referring {
                if let Some(to) = from.references().iter().find(|to| !self.resolves(to)) {
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

    /// Whether the resource that `to` names is here, or is a cluster that clients have from elsewhere.
    pub fn resolves(&self, to: &Reference) -> bool {
        self.types[to.kind].get(&to.name).is_some()
            || to.kind == ResourceType::Cluster
                && self.external_clusters.iter().any(|name| **name == *to.name)
    }

    /// Makes the version of endpoints change with the version of their cluster.
    ///
    /// Envoy warms a changed cluster as if it were new, and waits up to 15 s for its endpoints to be sent again,
    /// even if they are the same. A version that covers cluster and endpoints makes every stream send them again,
    /// including one that resumes after a reconnect. Spec: ["Resource
    /// warming"](https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#resource-warming).
    fn salt_endpoint_versions(&mut self) {
        let mut salts: NameMap<Version> = NameMap::default();
        for cluster in self.types[ResourceType::Cluster].iter() {
            for to in cluster.references().iter().filter(|to| to.kind == ResourceType::Endpoints) {
                let salt = salts.entry(Arc::clone(&to.name)).or_default();
                *salt = salt.with(cluster.content());
            }
        }
        for resource in self.types[ResourceType::Endpoints].by_name.values_mut() {
            let Some(salt) = salts.get(resource.name()) else { continue };
            // Endpoints from an earlier snapshot usually have the right version already.
            if resource.version() != resource.content().with_salt(*salt) {
                *resource = Arc::new(resource.with_version_salt(*salt));
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

    /// All resources. Reusing them in the next snapshot needs no encoding.
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
            let removed = |one: &&Arc<Resource>| new.get(one.name()).is_none();
            let changed = new.iter().filter(differs).chain(old.iter().filter(removed));
            changed.map(|one| Arc::clone(one.name())).collect()
        })
    }
}
