//! Applies a decision about what to send, and records the response.

use std::sync::Arc;

use super::client_resource::ClientResource;
use super::{Change, InFlight, OpenRequest, TypeState};
use crate::resource::Resource;
use crate::version::Version;

/// What may be sent now of one type, and what has to wait.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    /// Resources to send.
    pub(crate) send: Vec<Arc<Resource>>,
    /// Names to remove.
    pub(crate) remove: Vec<Arc<str>>,
    /// Requested names that do not exist.
    pub(crate) missing: Vec<Arc<str>>,
    /// Names that wait for other types.
    pub(crate) deferred: Vec<Arc<str>>,
    /// Whether the client requested one of the resources that wait.
    pub(crate) defers_request: bool,
}

/// What the state of a type became after a [`Decision`] was applied.
#[derive(Debug)]
pub(crate) struct Committed {
    changed: Vec<Change>,
    removed: Vec<(Arc<str>, ClientResource)>,
    /// Names that the client does not have any more, or that do not exist.
    pub(crate) removed_names: Vec<Arc<str>>,
    /// Whether a request needs a response even if nothing changed.
    pub(crate) must_respond: bool,
    /// Whether anything changed, so that another type may continue.
    pub(crate) has_progress: bool,
}

impl Committed {
    /// The resources that the client has from now on.
    pub(crate) fn resources(&self) -> impl ExactSizeIterator<Item = &Arc<Resource>> {
        self.changed.iter().map(|(resource, _)| resource)
    }

    /// The response does not mention the removals, so the client's answer is not about them.
    pub(crate) fn drop_removals(&mut self) {
        self.removed.clear();
    }
}

impl TypeState {
    /// Applies a decision: from now on the client counts as having what is sent.
    pub(crate) fn commit(&mut self, decision: Decision) -> Committed {
        let Decision { send, remove, missing, deferred, defers_request } = decision;
        // A removal that waits is not withheld any more.
        self.rejected.retain(|name, one| !(one.is_removal() && deferred.contains(name)));
        let dirty_before = std::mem::take(&mut self.dirty);
        self.dirty.extend(deferred);
        // A requested name that waits is still `Requested`, so its request stays open.
        self.request = if defers_request { OpenRequest::Names } else { OpenRequest::None };
        self.forget_rejections(send.iter().map(|resource| resource.name()).chain(&remove));
        let removed = remove.iter().map(|name| (Arc::clone(name), self.set(Arc::clone(name), None)));
        let removed: Vec<_> = removed.filter_map(|(name, held)| Some((name, held?))).collect();
        missing.iter().for_each(|name| self.forget(name));
        let mut removed_names = remove;
        removed_names.extend(missing);
        let changed = send.into_iter().map(|resource| {
            let before = self.mark_sent(Arc::clone(&resource));
            (resource, before)
        });
        Committed {
            changed: changed.collect(),
            removed,
            removed_names,
            must_respond: std::mem::take(&mut self.must_respond),
            has_progress: self.dirty.has_shrunk_from(&dirty_before),
        }
    }

    /// The client is about to give another answer about these.
    fn forget_rejections<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>) {
        if self.rejected.is_empty() && self.retry_alone.is_empty() {
            return;
        }
        for name in names {
            self.rejected.remove(name);
            self.retry_alone.remove(name);
        }
    }

    /// The client has this resource now. Returns what it had before.
    fn mark_sent(&mut self, resource: Arc<Resource>) -> Option<ClientResource> {
        let name = Arc::clone(resource.name());
        self.set(name, Some(ClientResource::Sent(resource)))
    }

    /// The reconnected client has this resource from an earlier stream.
    pub(crate) fn confirm(&mut self, resource: Arc<Resource>) {
        self.mark_sent(resource);
    }

    /// A response is on its way. Returns the version that it carries.
    pub(crate) fn record_response(&mut self, nonce: u64, seq: u64, committed: Committed) -> Version {
        let Committed { changed, removed, .. } = committed;
        self.nonce = nonce;
        self.in_flight.push(InFlight { nonce, seq, version: self.version, changed, removed });
        self.version
    }
}
