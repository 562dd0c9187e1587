//! A client's NACKs: what is rejected from then on, what the client has, and when a rejection is over.
//!
//! `rejection.rs` has the model.

use std::collections::HashSet;
use std::sync::Arc;

use super::client_resource::ClientResource;
use super::rejection::{RejectedChange, RejectedResponse};
use super::{Change, InFlight, TypeState};
use crate::resource::Resource;
use crate::snapshot::Resources;
use crate::version::Version;

/// How many rejected versions of one resource are remembered as possibly in use.
const POSSIBLY_HELD: usize = 8;

/// Queries.
impl TypeState {
    /// Whether the snapshot has a change that the client rejected, of a resource that it subscribes to.
    pub(crate) fn has_rejected(&self) -> bool {
        self.rejected.keys().any(|name| self.subscription.covers(name))
    }

    /// Whether the client rejected this version; without a version, the removal of the resource.
    pub(super) fn is_rejected(&self, name: &str, version: Option<Version>) -> bool {
        self.rejected.get(name).is_some_and(|rejected| rejected.version == version)
    }

    /// The resources of the snapshot that the client rejected, for a response that must be complete.
    pub(crate) fn rejected_versions<'a>(
        &'a self,
        target: &'a Resources,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        let rejected = self.rejected.iter().filter(|(name, _)| self.subscription.covers(name));
        rejected.filter_map(|(name, rejected)| {
            target.get(name).filter(|resource| rejected.version == Some(resource.version()))
        })
    }

    /// The removals that the client rejected, for a response that must be complete.
    pub(crate) fn rejected_removals<'a>(
        &'a self,
        target: &'a Resources,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let removals = self.rejected.iter().filter(|(_, rejected)| rejected.version.is_none());
        removals.map(|(name, _)| name).filter(|name| target.get(name).is_none())
    }

    /// Whether this resource was rejected in a response with others and is sent once more, alone.
    pub(crate) fn must_be_alone(&self, name: &str) -> bool {
        self.retry_alone.contains(name)
    }
}

/// Transitions.
impl TypeState {
    /// The client rejected a response. None if it was answered before.
    ///
    /// `newest` is the newest publication's number and resources. `is_full` says whether responses of this type must be
    /// complete.
    pub(crate) fn on_nack(
        &mut self,
        nonce: u64,
        newest: Option<(u64, &Resources)>,
        is_full: bool,
    ) -> Option<RejectedResponse> {
        let at = self.in_flight.iter().position(|response| response.nonce == nonce)?;
        let InFlight { seq, changed, removed, version, .. } = self.in_flight.drain(..=at).next_back()?;
        let names =
            changed.iter().map(|(resource, _)| resource.name()).chain(removed.iter().map(|(name, _)| name));
        let names = names.cloned().collect();
        let is_alone = changed.len() == 1 && removed.is_empty();
        for (resource, before) in changed {
            // The response may repeat what the client had, until its removal or replacement. That is not withheld.
            let repeats =
                before.as_ref().and_then(ClientResource::sent).is_some_and(|had| Arc::ptr_eq(had, &resource));
            let is_current = |now: &Arc<Resource>| now.version() == resource.version();
            let is_gone =
                newest.is_some_and(|(_, target)| !target.get(resource.name()).is_some_and(is_current));
            if !(repeats && is_gone) {
                self.reject(resource.name(), Some(resource.version()), nonce, is_alone);
            }
            self.restore(&resource, before, is_alone);
        }
        for (name, before) in removed {
            self.reject(&name, None, nonce, false);
            if self.subscription.covers(&name) && !self.held.contains_key(&name) {
                self.set(name, Some(before.unconfirmed()));
            }
        }
        match newest {
            // The answer is late: the snapshot may have corrected what it is about.
            Some((now, target)) if now != seq => self.drop_corrected(target, is_full),
            // What waits for its removal is not in the snapshot, and is not withheld.
            Some((_, target)) => {
                self.rejected.retain(|name, one| one.version.is_none() || target.get(name).is_some());
            }
            None => {}
        }
        Some(RejectedResponse { version, names })
    }

    /// Remembers a rejected change. One that was rejected before stays connected with the other changes of that response.
    fn reject(&mut self, name: &Arc<str>, version: Option<Version>, nonce: u64, is_alone: bool) {
        let known = self.rejected.get_mut(name).filter(|known| known.version == version);
        let Some(known) = known else {
            self.rejected.insert(Arc::clone(name), RejectedChange { version, nonce, is_alone });
            return;
        };
        known.is_alone |= is_alone;
        let before = known.nonce;
        if !is_alone && before != nonce {
            // What was rejected with it earlier and what is rejected with it now depend on it alike.
            let same = self.rejected.values_mut().filter(|one| one.nonce == before);
            same.for_each(|one| one.nonce = nonce);
        }
    }

    /// The client requested a name again. If it rejected the name together with others, each of them is sent once more,
    /// alone.
    pub(super) fn release_requested(&mut self, name: &Arc<str>) {
        if let Some(RejectedChange { nonce, is_alone: false, .. }) = self.rejected.get(name) {
            let nonces = HashSet::from([*nonce]);
            self.release(&nonces, false);
        }
    }

    /// Sends the changes of these rejected responses again, except changes that were also rejected alone.
    fn release(&mut self, nonces: &HashSet<u64>, is_full: bool) {
        let released = self.rejected.extract_if(|_, one| !one.is_alone && nonces.contains(&one.nonce));
        let released: Vec<_> = released.map(|(name, _)| name).collect();
        if !is_full {
            self.retry_alone.extend(released.iter().cloned());
        }
        self.dirty.extend(released);
    }

    /// The client requested everything again.
    pub(super) fn release_all_requested(&mut self) {
        let released = self.rejected.extract_if(|_, rejected| !rejected.is_alone);
        self.retry_alone.extend(released.map(|(name, _)| name));
    }

    /// Restores what the client had before a resource that it rejected. If the response had other changes, the client
    /// may have accepted this one.
    fn restore(&mut self, rejected: &Arc<Resource>, before: Option<ClientResource>, is_alone: bool) {
        let name = rejected.name();
        let before = match before {
            // The request got its response, although the client rejected it.
            Some(ClientResource::Requested(None)) if is_alone => None,
            before if is_alone => before,
            before => Some(before.map_or(ClientResource::Unconfirmed(None), ClientResource::unconfirmed)),
        };
        let is_same = |(later, _): &&mut Change| later.name() == name;
        let later = self.in_flight.iter_mut().flat_map(|response| &mut response.changed).find(is_same);
        if let Some((_, before_later)) = later {
            *before_later = before;
        } else if self.subscription.covers(name) && self.held.contains_key(name) {
            self.set(Arc::clone(name), before);
        } else {
            return;
        }
        if is_alone {
            if let Some(held) = self.possibly_held.get_mut(name) {
                held.retain(|one| one.version() != rejected.version());
            }
            return;
        }
        let held = self.possibly_held.entry(Arc::clone(name)).or_default();
        if held.len() == POSSIBLY_HELD {
            held.remove(0);
        }
        held.push(Arc::clone(rejected));
    }

    /// The client does not use these any more.
    pub(crate) fn drop_possibly_held(&mut self, names: &[Arc<str>]) {
        names.iter().for_each(|name| drop(self.possibly_held.remove(name)));
    }

    /// Forgets rejections of what the snapshot no longer has.
    pub(super) fn drop_corrected(&mut self, target: &Resources, is_full: bool) {
        let is_corrected = |name: &Arc<str>, rejected: &mut RejectedChange| {
            target.get(name).map(|resource| resource.version()) != rejected.version
        };
        let corrected: HashSet<u64> =
            self.rejected.extract_if(is_corrected).map(|(_, rejected)| rejected.nonce).collect();
        if corrected.is_empty() {
            return;
        }
        // The client may still have resources of an earlier stream, because it rejected what would replace them.
        self.must_respond |= self.has_unknown_resources;
        self.release(&corrected, is_full);
    }
}
