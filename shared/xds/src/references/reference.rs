//! A reference from one resource to another, and how to read it from Envoy's messages.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{ConfigSource, config_source::ConfigSourceSpecifier};
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use crate::resource_type::ResourceType;

/// The name of a resource that must exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The type of the resource.
    pub kind: ResourceType,
    /// Its name.
    pub name: Arc<str>,
}

/// A message that refers to resources.
pub trait References {
    /// Returns all references, in the order in which the message has them.
    fn references(&self) -> Vec<Reference>;
}

pub(super) fn to(kind: ResourceType, name: &str) -> Reference {
    Reference { kind, name: name.into() }
}

/// Whether the client fetches the resource from this control plane: by ADS, or from the server that sent the reference.
pub(super) fn is_ours(source: Option<&ConfigSource>) -> bool {
    matches!(
        source.and_then(|source| source.config_source_specifier.as_ref()),
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_))
    )
}

/// Decodes a packed message if it is an `M`. Bytes that do not decode have no references that could be
/// named; the client rejects them and says why.
pub(super) fn unpack<M: Message + Name + Default>(any: &Any) -> Option<M> {
    if any.type_url != M::type_url() {
        return None;
    }
    M::decode(any.value.as_slice()).ok()
}
