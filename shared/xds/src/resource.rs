//! One resource: its type, its name, its version, and its bytes, encoded once.
//!
//! A resource keeps its references. How they are found is the subject of `references.rs`, and which resources
//! belong together that of `snapshot.rs`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::{
    cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
    route::v3::RouteConfiguration,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::google::protobuf::Any;
use xxhash_rust::xxh3::Xxh3;

use crate::references::{Reference, References};
use crate::resource_type::ResourceType;
use crate::variant::XdsVariant;
use crate::version::Version;
use crate::wire::{any_field, resource_field};

/// Why bytes are not a valid resource.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// This control plane does not serve the type.
    #[error(
        "'{0}' is not a resource type that is served here; served are clusters, endpoints, secrets, listeners and routes of API v3"
    )]
    UnknownType(String),
    /// The bytes do not decode as the type that they claim.
    #[error("the {kind} resource does not decode: {cause}")]
    Undecodable {
        /// The type that was claimed.
        kind: ResourceType,
        /// What the decoder said.
        cause: prost::DecodeError,
    },
    /// A resource without a name cannot be subscribed to.
    #[error("a {0} resource has no name; set its `name` (`cluster_name` for endpoints)")]
    Nameless(ResourceType),
}

/// A message of Envoy's API that is an xDS resource.
pub trait XdsMessage: prost::Message + prost::Name + Default + References {
    /// Its type.
    const KIND: ResourceType;
    /// What clients subscribe to.
    fn name(&self) -> &str;
}

macro_rules! message {
    ($($message:ident: $kind:ident by $name:ident),* $(,)?) => {$(
        impl XdsMessage for $message {
            const KIND: ResourceType = ResourceType::$kind;
            fn name(&self) -> &str {
                &self.$name
            }
        }
    )*};
}
message! {
    Cluster: Cluster by name,
    ClusterLoadAssignment: Endpoints by cluster_name,
    Secret: Secret by name,
    Listener: Listener by name,
    RouteConfiguration: Route by name,
}

/// One resource, ready to be sent to any number of clients.
///
/// One buffer holds both wire forms: a delta response's `Resource` message ends with the
/// field that, byte for byte, is a state-of-the-world response's entry (both are field 2, holding
/// the `Any`). So one buffer serves both variants.
#[derive(Clone)]
pub struct Resource {
    kind: ResourceType,
    name: Arc<str>,
    content: Version,
    version: Version,
    wire: Bytes,
    any_at: usize,
    references: Arc<[Reference]>,
}

impl Resource {
    /// Encodes `message`.
    ///
    /// The version is a hash of the encoded bytes. Protobuf maps with several entries have no fixed
    /// order: the same content may get another version each time it is encoded, and is then sent once more than
    /// necessary. A change is never missed. Sorting the entries needs a description of all of Envoy's API, because
    /// most maps are nested in other messages. A caller that has one sorts first and calls
    /// [`from_any`](Self::from_any).
    ///
    /// # Errors
    /// [`ResourceError::Nameless`].
    pub fn new<M: XdsMessage>(message: &M) -> Result<Self, ResourceError> {
        Self::build(message, message.encode_to_vec().as_slice())
    }

    /// Takes a packed resource, as it comes from files and from other control planes. The same bytes always have the
    /// same version.
    ///
    /// # Errors
    /// A type that is not served, bytes that do not decode, or a missing name.
    pub fn from_any(any: &Any) -> Result<Self, ResourceError> {
        fn decode<M: XdsMessage>(any: &Any) -> Result<Resource, ResourceError> {
            let undecodable = |cause| ResourceError::Undecodable { kind: M::KIND, cause };
            let message = M::decode(any.value.as_slice()).map_err(undecodable)?;
            // The bytes as given, not encoded again: fields that we do not know survive.
            Resource::build(&message, &any.value)
        }
        let unknown = || ResourceError::UnknownType(any.type_url.clone());
        match ResourceType::from_url(&any.type_url).ok_or_else(unknown)? {
            ResourceType::Cluster => decode::<Cluster>(any),
            ResourceType::Endpoints => decode::<ClusterLoadAssignment>(any),
            ResourceType::Secret => decode::<Secret>(any),
            ResourceType::Listener => decode::<Listener>(any),
            ResourceType::Route => decode::<RouteConfiguration>(any),
        }
    }

    fn build<M: XdsMessage>(message: &M, body: &[u8]) -> Result<Self, ResourceError> {
        if message.name().is_empty() {
            return Err(ResourceError::Nameless(M::KIND));
        }
        let mut hash = Xxh3::new();
        hash.update(M::KIND.url().as_bytes());
        hash.update(message.name().as_bytes());
        hash.update(&[0]);
        hash.update(body);
        let content = Version::from_hash(hash.digest());
        let any = any_field(M::KIND.url(), body);
        let (wire, any_at) = resource_field(message.name(), content, &any);
        Ok(Self {
            kind: M::KIND,
            name: message.name().into(),
            content,
            version: content,
            wire,
            any_at,
            references: message.references().into(),
        })
    }

    /// This resource with a version that also changes whenever `salt` does.
    #[must_use]
    pub fn with_version_salt(&self, salt: Version) -> Self {
        let version = self.content.with_salt(salt);
        let (wire, any_at) = resource_field(&self.name, version, &self.wire[self.any_at..]);
        Self { version, wire, any_at, ..self.clone() }
    }

    /// Its type.
    pub fn kind(&self) -> ResourceType {
        self.kind
    }

    /// What clients subscribe to.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The version that is sent.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version of its content alone, before any [`with_version_salt`](Self::with_version_salt).
    pub fn content(&self) -> Version {
        self.content
    }

    /// The resources that it needs.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Its entry in a state-of-the-world response: field 2 of `DiscoveryResponse`.
    pub fn sotw_field(&self) -> &[u8] {
        &self.wire[self.any_at..]
    }

    /// Its entry in a delta response: field 2 of `DeltaDiscoveryResponse`.
    pub fn delta_field(&self) -> &[u8] {
        &self.wire
    }

    /// Its entry in a response of this variant.
    pub fn field(&self, variant: XdsVariant) -> &[u8] {
        match variant {
            XdsVariant::Sotw => self.sotw_field(),
            XdsVariant::Delta => self.delta_field(),
        }
    }
}

impl fmt::Debug for Resource {
    /// Without its content, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} @ {}", self.kind, self.name, self.version)
    }
}
