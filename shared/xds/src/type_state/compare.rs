//! The difference between what a client has and what the snapshot has.

use std::sync::Arc;

use super::TypeState;
use super::client_resource::ClientResource;
use super::dirty_names::DirtyNames;
use crate::publication::Quarantine;
use crate::resource::Resource;
use crate::resource_type::ResourceType;
use crate::snapshot::Snapshot;

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
    /// Compares what the client has with `target`, for the dirty names.
    ///
    /// A rejected version is skipped: the client keeps what it has, or gets the last accepted version.
    pub(crate) fn difference(
        &self,
        kind: ResourceType,
        target: &Snapshot,
        quarantine: &Quarantine,
    ) -> Difference {
        let mut found = Difference::default();
        let resources = target.of(kind);
        let mut compare = |name: &Arc<str>| {
            let held = self.held.get(name);
            let wanted = resources.get(name).filter(|_| self.subscription.covers(name));
            let wanted = match wanted {
                Some(resource) if self.is_rejected(resource, quarantine) => {
                    let accepted = self.last_accepted(kind, name, target, quarantine);
                    match held {
                        Some(ClientResource::Sent(_)) => return,
                        // It has something that works; the server only does not know what.
                        Some(ClientResource::OutdatedVersion) if accepted.is_none() => return,
                        Some(
                            ClientResource::Requested(Some(before)) | ClientResource::Unconfirmed(before),
                        ) => Some(before).filter(|before| !self.rejected.contains_key(&before.version())),
                        _ => accepted,
                    }
                }
                wanted => wanted,
            };
            match (wanted, held) {
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

    /// Whether the client, or another client of its group, rejected this version.
    fn is_rejected(&self, resource: &Resource, quarantine: &Quarantine) -> bool {
        let version = &resource.version();
        self.rejected.contains_key(version) || quarantine.versions.contains(version)
    }

    /// What to send instead of a rejected version: the version that all clients accepted last.
    ///
    /// None if the target lacks something that it refers to: a route to a missing cluster is worse than none.
    fn last_accepted<'a>(
        &self,
        kind: ResourceType,
        name: &str,
        target: &Snapshot,
        quarantine: &'a Quarantine,
    ) -> Option<&'a Arc<Resource>> {
        let accepted = quarantine.accepted.as_ref()?.get(kind, name)?;
        let is_complete = accepted.references().iter().all(|to| target.resolves(to));
        (is_complete && !self.is_rejected(accepted, quarantine)).then_some(accepted)
    }

    /// What the client should have in place of `wanted`: `wanted`, unless it was rejected.
    pub(crate) fn best_version<'a>(
        &self,
        wanted: &'a Arc<Resource>,
        target: &Snapshot,
        quarantine: &'a Quarantine,
    ) -> Option<&'a Arc<Resource>> {
        if self.is_rejected(wanted, quarantine) {
            self.last_accepted(wanted.kind(), wanted.name(), target, quarantine)
        } else {
            Some(wanted)
        }
    }

    /// What the client gets if it requested a name that waits for its removal: what it has until then.
    pub(crate) fn kept_version(&self, name: &str, quarantine: &Quarantine) -> Option<&Arc<Resource>> {
        match self.held.get(name) {
            Some(ClientResource::Requested(Some(had))) if !self.is_rejected(had, quarantine) => Some(had),
            _ => None,
        }
    }
}
