//! One resource: its type, its name, its version, and its bytes, encoded once.
//!
//! Knows the wire form of a single resource, and keeps what it refers to. Does not know how that is found
//! (`reference.rs`) or what belongs together (`snapshot.rs`).

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::{
    cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
    route::v3::RouteConfiguration,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::google::protobuf::Any;
use prost::encoding::{encode_varint, encoded_len_varint};
use xxhash_rust::xxh3::Xxh3;

use super::reference::{Reference, Refers};

/// The types of resource that this control plane serves.
///
/// **The order is the protocol's**: what is declared earlier is sent earlier, so that a listener or
/// a route never arrives before the cluster that it needs. Secrets stand before listeners because a
/// cluster that uses one is not warm without it.
/// Source: "Eventual consistency considerations" in Envoy's xDS protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster`, by CDS.
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`, by EDS.
    Endpoints,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`, by SDS.
    Secret,
    /// `envoy.config.listener.v3.Listener`, by LDS.
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`, by RDS.
    Route,
}

impl ResourceType {
    /// Every type, in the order in which updates are sent.
    pub const ALL: [Self; 5] = [Self::Cluster, Self::Endpoints, Self::Secret, Self::Listener, Self::Route];

    /// The type's URL on the wire.
    pub fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type with this URL, if it is one of ours.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// The discovery service that carries it: `CDS`, `EDS`, `SDS`, `LDS`, `RDS`.
    pub fn service(self) -> &'static str {
        match self {
            Self::Cluster => "CDS",
            Self::Endpoints => "EDS",
            Self::Secret => "SDS",
            Self::Listener => "LDS",
            Self::Route => "RDS",
        }
    }

    /// What one resource of the type is called in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Secret => "secret",
            Self::Listener => "listener",
            Self::Route => "route",
        }
    }

    /// Whether a state-of-the-world response must hold *all* that the client subscribed to, because
    /// leaving a resource out deletes it. Only listeners and clusters are deleted that way; the
    /// other types go away with what refers to them.
    pub fn is_root(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.service())
    }
}

/// One value for each [`ResourceType`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerType<T>([T; ResourceType::ALL.len()]);

impl<T> PerType<T> {
    /// Makes a value for each type.
    pub fn from_fn(mut make: impl FnMut(ResourceType) -> T) -> Self {
        Self(ResourceType::ALL.map(&mut make))
    }

    /// The values with their types, in the order in which updates are sent.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceType, &T)> {
        ResourceType::ALL.into_iter().zip(&self.0)
    }
}

impl<T> std::ops::Index<ResourceType> for PerType<T> {
    type Output = T;
    fn index(&self, kind: ResourceType) -> &T {
        &self.0[kind as usize]
    }
}

impl<T> std::ops::IndexMut<ResourceType> for PerType<T> {
    fn index_mut(&mut self, kind: ResourceType) -> &mut T {
        &mut self.0[kind as usize]
    }
}

/// A version: a hash of content, so that it is the same after a restart and on every server.
///
/// Versions of single resources add up to the version of a set, in any order, so that a stream can
/// keep the version of what its client holds without looking at all of it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of the empty set.
    pub const NONE: Self = Self(0);

    /// This set's version with one more resource in it.
    #[must_use]
    pub fn with(self, one: Self) -> Self {
        Self(self.0.wrapping_add(one.0))
    }

    /// This set's version without one of its resources.
    #[must_use]
    pub fn without(self, one: Self) -> Self {
        Self(self.0.wrapping_sub(one.0))
    }

    /// A version that changes if either does.
    #[must_use]
    pub fn salted(self, salt: Self) -> Self {
        let mut hash = Xxh3::with_seed(salt.0);
        hash.update(&self.0.to_le_bytes());
        Self(hash.digest())
    }

    /// Whether `text` is how this version is written on the wire; costs no allocation.
    pub fn is_written(self, text: &str) -> bool {
        text.len() == 16 && u64::from_str_radix(text, 16) == Ok(self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Bytes that claim to be a resource and are not.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// The type is none that this control plane serves.
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

/// A message of Envoy's API that is a resource.
pub trait Message: prost::Message + prost::Name + Default + Refers {
    /// Its type.
    const KIND: ResourceType;
    /// What clients subscribe to.
    fn name(&self) -> &str;
}

macro_rules! message {
    ($($message:ident: $kind:ident by $name:ident),* $(,)?) => {$(
        impl Message for $message {
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
/// Its bytes hold it twice over without a copy: a delta response's `Resource` message ends with the
/// field that, byte for byte, is a state-of-the-world response's entry (both are field 2, holding
/// the `Any`). So one buffer serves both dialects.
#[derive(Clone)]
pub struct Resource {
    kind: ResourceType,
    name: Arc<str>,
    content: Version,
    version: Version,
    wire: Bytes,
    any_at: usize,
    refers: Arc<[Reference]>,
}

impl Resource {
    /// Encodes `message`.
    ///
    /// The version is a hash of the encoded bytes. Protobuf maps with several entries have no fixed
    /// order in them: such a message may get another version whenever it is made anew, and is then sent
    /// once more than necessary; a change is never missed. To sort them here would take a description of all
    /// of Envoy's API, since most maps are inside of other messages. Whoever has one sorts first, and calls
    /// [`from_any`](Self::from_any).
    ///
    /// # Errors
    /// [`ResourceError::Nameless`].
    pub fn new<M: Message>(message: &M) -> Result<Self, ResourceError> {
        Self::build(message, message.encode_to_vec().as_slice())
    }

    /// Takes a resource in its packed form, as files and other control planes have it. The same bytes always have
    /// the same version.
    ///
    /// # Errors
    /// A type that is not served, bytes that do not decode, or a missing name.
    pub fn from_any(any: &Any) -> Result<Self, ResourceError> {
        fn decode<M: Message>(any: &Any) -> Result<Resource, ResourceError> {
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

    fn build<M: Message>(message: &M, body: &[u8]) -> Result<Self, ResourceError> {
        if message.name().is_empty() {
            return Err(ResourceError::Nameless(M::KIND));
        }
        let mut hash = Xxh3::new();
        hash.update(M::KIND.url().as_bytes());
        hash.update(message.name().as_bytes());
        hash.update(&[0]);
        hash.update(body);
        let content = Version(hash.digest());
        let any = any_field(M::KIND.url(), body);
        let (wire, any_at) = wire(message.name(), content, &any);
        Ok(Self {
            kind: M::KIND,
            name: message.name().into(),
            content,
            version: content,
            wire,
            any_at,
            refers: message.refers().into(),
        })
    }

    /// This resource with a version that also changes whenever `salt` does.
    #[must_use]
    pub fn salted(&self, salt: Version) -> Self {
        let version = self.content.salted(salt);
        let (wire, any_at) = wire(&self.name, version, &self.wire[self.any_at..]);
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

    /// The version of its content alone, before any [`salted`](Self::salted).
    pub fn content(&self) -> Version {
        self.content
    }

    /// The resources that it needs.
    pub fn refers(&self) -> &[Reference] {
        &self.refers
    }

    /// Its entry in a state-of-the-world response: field 2 of `DiscoveryResponse`.
    pub fn sotw_field(&self) -> &[u8] {
        &self.wire[self.any_at..]
    }

    /// Its entry in a delta response: field 2 of `DeltaDiscoveryResponse`.
    pub fn delta_field(&self) -> &[u8] {
        &self.wire
    }
}

impl fmt::Debug for Resource {
    /// Without its content, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} @ {}", self.kind, self.name, self.version)
    }
}

/// `0x12`: field 2, length-delimited, in each of the three messages that hold one another here.
const FIELD_2: u8 = 0x12;

/// Field 2 holding an `Any` {1: type_url, 2: value}.
fn any_field(url: &str, body: &[u8]) -> BytesMut {
    let inner = text_len(url) + 1 + encoded_len_varint(body.len() as u64) + body.len();
    let mut out = BytesMut::with_capacity(inner + 6);
    out.put_u8(FIELD_2);
    encode_varint(inner as u64, &mut out);
    put_text(&mut out, 1, url);
    out.put_u8(FIELD_2);
    encode_varint(body.len() as u64, &mut out);
    out.put_slice(body);
    out
}

/// Field 2 holding a delta `Resource` {1: version, 3: name, 2: any}, and where its field 2 begins.
fn wire(name: &str, version: Version, any: &[u8]) -> (Bytes, usize) {
    let version = version.to_string();
    let inner = text_len(&version) + text_len(name) + any.len();
    let mut out = BytesMut::with_capacity(inner + 6);
    out.put_u8(FIELD_2);
    encode_varint(inner as u64, &mut out);
    put_text(&mut out, 1, &version);
    put_text(&mut out, 3, name);
    let any_at = out.len();
    out.put_slice(any);
    (out.freeze(), any_at)
}

/// Appends a string field with a number below 16.
pub(super) fn put_text(out: &mut BytesMut, field: u8, text: &str) {
    out.put_u8(field << 3 | 2);
    encode_varint(text.len() as u64, out);
    out.put_slice(text.as_bytes());
}

/// The length of a string field with a number below 16.
pub(super) fn text_len(text: &str) -> usize {
    1 + encoded_len_varint(text.len() as u64) + text.len()
}
