//! What a client has of one resource, as far as the server knows.

use std::sync::Arc;

use crate::resource::Resource;

/// What the client has of a resource.
#[derive(Clone, Debug)]
pub(crate) enum ClientResource {
    /// The resource that was sent last.
    Sent(Arc<Resource>),
    /// The client requested the name and needs a response, even if this resource was sent before. A removal is a
    /// response too.
    Requested(Option<Arc<Resource>>),
    /// This resource was sent, but the client may not have accepted it. It is still needed, and the type's
    /// version does not include it.
    Unconfirmed(Arc<Resource>),
    /// A version from an earlier stream that differs from the snapshot's.
    OutdatedVersion,
}

impl ClientResource {
    /// The resource that was sent last, if the client should have it.
    pub(crate) fn sent(&self) -> Option<&Arc<Resource>> {
        match self {
            Self::Sent(resource) | Self::Requested(Some(resource)) => Some(resource),
            Self::Requested(None) | Self::Unconfirmed(_) | Self::OutdatedVersion => None,
        }
    }

    /// The resource that was sent last, even if the client may not have it.
    pub(crate) fn resource(&self) -> Option<&Arc<Resource>> {
        match self {
            Self::Unconfirmed(resource) => Some(resource),
            other => other.sent(),
        }
    }
}
