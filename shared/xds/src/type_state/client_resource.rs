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
    /// The client may have this, or something else, or nothing. The resource has to be sent again, and the type's version
    /// does not include it.
    Unconfirmed(Option<Arc<Resource>>),
    /// A version from an earlier stream that differs from the snapshot's.
    OutdatedVersion,
}

impl ClientResource {
    /// The resource that was sent last and that the client did not reject.
    pub(crate) fn sent(&self) -> Option<&Arc<Resource>> {
        match self {
            Self::Sent(resource) => Some(resource),
            Self::Requested(resource) | Self::Unconfirmed(resource) => resource.as_ref(),
            Self::OutdatedVersion => None,
        }
    }

    /// The resource that the client has once it accepts what was sent.
    pub(crate) fn confirmed(&self) -> Option<&Arc<Resource>> {
        match self {
            Self::Unconfirmed(_) => None,
            other => other.sent(),
        }
    }

    /// The state after the client may have got something else in its place.
    pub(crate) fn unconfirmed(self) -> Self {
        match self {
            Self::OutdatedVersion => Self::OutdatedVersion,
            other => Self::Unconfirmed(other.sent().cloned()),
        }
    }
}
