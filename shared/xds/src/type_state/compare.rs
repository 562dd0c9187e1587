//! The difference between what a client has and what the snapshot has.

use std::sync::Arc;

use super::TypeState;
use super::client_resource::ClientResource;
use super::dirty_names::DirtyNames;
use crate::resource::Resource;
use crate::snapshot::Resources;

/// What a client of one type needs to catch up with a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Resources that the client should have and does not have.
    pub(crate) changed: Vec<Arc<Resource>>,
    /// Names that the client has and that the snapshot no longer has.
    pub(crate) removed: Vec<Arc<str>>,
    /// Names that the client requested and that the snapshot does not have.
    pub(crate) missing: Vec<Arc<str>>,
}

impl TypeState {
    /// Compares what the client has with the snapshot's resources, for the dirty names. Skips rejected changes.
    pub(crate) fn difference(&self, resources: &Resources) -> Difference {
        let mut found = Difference::default();
        let mut compare = |name: &Arc<str>| {
            let wanted = resources.get(name).filter(|_| self.subscription.covers(name));
            if self.is_rejected(name, wanted.map(|resource| resource.version())) {
                return;
            }
            match (wanted, self.held.get(name)) {
                (Some(resource), Some(ClientResource::Sent(sent)))
                    if resource.version() == sent.version() => {}
                (Some(resource), _) => found.changed.push(Arc::clone(resource)),
                (None, Some(ClientResource::Requested(None))) => found.missing.push(Arc::clone(name)),
                (None, Some(_)) => found.removed.push(Arc::clone(name)),
                (None, None) => {}
            }
        };
        match &self.dirty {
            DirtyNames::None => {}
            DirtyNames::Names(names) => names.iter().for_each(compare),
            DirtyNames::All => {
                if self.subscription.is_wildcard() {
                    resources.iter().for_each(|resource| compare(resource.name()));
                } else {
                    self.subscription.names().for_each(&mut compare);
                }
                // The client also has names that the loops above did not visit: names that left the snapshot or
                // the subscription.
                let is_unvisited = |name: &&Arc<str>| {
                    if self.subscription.is_wildcard() {
                        resources.get(name).is_none()
                    } else {
                        !self.subscription.covers(name)
                    }
                };
                self.held.keys().filter(is_unvisited).for_each(compare);
            }
        }
        found
    }

    /// What the client had before it rejected a response, if it may have something else now.
    pub(crate) fn unconfirmed(&self, name: &str) -> Option<&Arc<Resource>> {
        match self.held.get(name) {
            Some(ClientResource::Unconfirmed(had)) => had.as_ref(),
            _ => None,
        }
    }

    /// What the client gets if it requested a name that waits for its removal: what it has until then.
    pub(crate) fn kept_version(&self, name: &str) -> Option<&Arc<Resource>> {
        match self.held.get(name) {
            Some(ClientResource::Requested(had)) => had.as_ref(),
            _ => None,
        }
    }
}
