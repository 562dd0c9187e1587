//! The values that go in and out of a stream's state: what a request turned out to be, and responses.

use std::sync::Arc;

use crate::resource::Resource;
use crate::resource_type::ResourceType;
use crate::snapshot::{Resources, Snapshot};
pub use crate::type_state::RejectedResponse;
use crate::variant::XdsVariant;
use crate::version::Version;

/// What a request turned out to be, besides a subscription.
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestOutcome {
    /// It only subscribes, and does not answer a response.
    Subscription,
    /// It accepts a response.
    Ack {
        /// The version that the response carried.
        version: Version,
        /// Whether the request changes the subscription too.
        subscribes: bool,
    },
    /// It rejects a response.
    Nack {
        /// The client's error message. It is free text: nothing is read from it.
        message: String,
        /// The response; none if it was answered before.
        rejected: Option<RejectedResponse>,
    },
    /// It answers a response that a newer one has replaced. State of the world: the server ignores the request.
    Stale,
    /// It subscribes to more names than a stream may have ([`SUBSCRIPTION_LIMIT`]); the stream has to end.
    ///
    /// [`SUBSCRIPTION_LIMIT`]: crate::subscription::SUBSCRIPTION_LIMIT
    LimitExceeded,
}

/// The resources that a response carries.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Every resource of the type in this snapshot, as bytes that all streams share.
    Everything(Arc<Snapshot>),
    /// These resources.
    These(Vec<Arc<Resource>>),
}

impl Payload {
    /// These resources, or the shared bytes of all resources of the type if they are the same.
    pub(crate) fn of(resources: Vec<Arc<Resource>>, kind: ResourceType, target: &Arc<Snapshot>) -> Self {
        let all = target.of(kind);
        let version = || resources.iter().fold(Version::NONE, |sum, one| sum.with(one.version()));
        if resources.len() > 1 && resources.len() == all.len() && version() == all.version() {
            Self::Everything(Arc::clone(target))
        } else {
            Self::These(resources)
        }
    }
}

/// One response to send.
#[derive(Clone, Debug)]
pub struct Response {
    /// The variant of the protocol that it is for.
    pub variant: XdsVariant,
    /// The type of its resources.
    pub kind: ResourceType,
    /// The version of everything that the client holds once it accepts this response.
    pub version: Version,
    /// The nonce that the client's answer repeats.
    pub nonce: u64,
    /// The resources that it carries.
    pub payload: Payload,
    /// Delta: names that no longer exist, or never did.
    pub removed: Vec<Arc<str>>,
}

impl Response {
    /// How many resources it carries.
    pub fn len(&self) -> usize {
        match &self.payload {
            Payload::Everything(snapshot) => snapshot.of(self.kind).len(),
            Payload::These(resources) => resources.len(),
        }
    }

    /// Whether it carries none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its resources, in no particular order.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let (all, these): (_, &[_]) = match &self.payload {
            Payload::Everything(snapshot) => (Some(snapshot.of(self.kind)), &[]),
            Payload::These(resources) => (None, resources),
        };
        all.into_iter().flat_map(Resources::iter).chain(these)
    }

    /// The size of its resources on the wire, in bytes.
    pub fn size(&self) -> usize {
        match &self.payload {
            Payload::Everything(snapshot) => snapshot.of(self.kind).encoded(self.variant).len(),
            Payload::These(resources) => resources.iter().map(|one| one.field(self.variant).len()).sum(),
        }
    }

    /// The names and sizes of its `count` largest resources.
    pub fn largest(&self, count: usize) -> Vec<(Arc<str>, usize)> {
        let size = |one: &Arc<Resource>| (Arc::clone(one.name()), one.field(self.variant).len());
        let mut sizes: Vec<_> = self.resources().map(size).collect();
        sizes.sort_unstable_by(|(a, a_size), (b, b_size)| b_size.cmp(a_size).then_with(|| a.cmp(b)));
        sizes.truncate(count);
        sizes
    }
}
