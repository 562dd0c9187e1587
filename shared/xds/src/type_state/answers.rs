//! A client's answers: what it has after an ACK, and which resources a NACK is about.
//!
//! A NACK has only the nonce of the response and a message. The client decides which resources of the response it
//! keeps, so the server treats the others neither as accepted nor as rejected.

use std::sync::Arc;

use super::client_resource::ClientResource;
use super::rejection::{Blame, RejectedResource};
use super::{Change, InFlight, TypeState};
use crate::resource::Resource;
use crate::snapshot::Resources;
use crate::version::Version;

/// How much of a NACK's message is searched for names, in bytes, so that a long message does not take time.
const MESSAGE_SEARCHED: usize = 64 * 1024;

impl TypeState {
    /// The client accepted a response. Returns its version, if it was still unanswered.
    ///
    /// Responses that were sent before it count as answered too, for a client answers in order.
    pub(crate) fn on_ack(&mut self, nonce: u64) -> Option<Version> {
        let at = self.in_flight.iter().position(|response| response.nonce == nonce)?;
        let version = self.in_flight[at].version;
        self.has_unknown_resources = false;
        let answered = self.in_flight.drain(..=at);
        if self.previous_versions.is_empty() {
            // Nearly always; then there is no need to look at every name again.
            return Some(version);
        }
        for response in answered {
            response
                .changed
                .iter()
                .for_each(|(resource, _)| drop(self.previous_versions.remove(resource.name())));
            response.removed.iter().for_each(|(name, _)| drop(self.previous_versions.remove(name)));
        }
        Some(version)
    }

    /// The client refused a response: it keeps what it had of the culprits.
    ///
    /// Of the other resources in the response it may keep the new versions (gRPC does, and Envoy does
    /// for clusters and listeners), or not. `is_deletable` says whether what it keeps would ever have to be
    /// deleted: then it is taken to keep them, so that no full response leaves them out and each removal
    /// is told. Otherwise it is taken not to, so that no version claims what it may not have.
    ///
    /// The complaint may come too late: `newest` is the target now, with its number.
    pub(crate) fn on_nack(
        &mut self,
        nonce: u64,
        message: &str,
        is_deletable: bool,
        newest: Option<(u64, &Resources)>,
    ) -> Blame {
        let Some(at) = self.in_flight.iter().position(|response| response.nonce == nonce) else {
            return Blame::default();
        };
        let Some(InFlight { changed, removed, seq, version, .. }) = self.in_flight.drain(..=at).next_back()
        else {
            return Blame::default();
        };
        self.complains = true;
        for (name, had) in removed {
            // It may have let this go, or not: the removal is due again with a correction, and the
            // resource should it come back. Until then nothing is said.
            if self.subscription.covers(&name) && !self.held.contains_key(&name) {
                self.beside.insert(Arc::clone(&name));
                let unsure = had.resource().map_or(ClientResource::OutdatedVersion, |had| {
                    ClientResource::Requested(Some(Arc::clone(had)))
                });
                self.set(name, Some(unsure));
            }
        }
        let end = (0..=MESSAGE_SEARCHED.min(message.len())).rev().find(|at| message.is_char_boundary(*at));
        let message = &message[..end.unwrap_or(0)];
        let is_named = |resource: &Resource| names(message, resource.name());
        let named = changed.iter().any(|(resource, _)| is_named(resource));
        let certain = named || changed.len() == 1;
        let mut suspects = Vec::new();
        for (resource, before) in changed {
            if named && !is_named(&resource) {
                self.beside.insert(Arc::clone(resource.name()));
                if let Some(had) = before.as_ref().and_then(ClientResource::resource)
                    && self.subscription.covers(resource.name())
                {
                    self.previous_versions
                        .entry(Arc::clone(resource.name()))
                        .or_insert_with(|| Arc::clone(had));
                }
                if !is_deletable {
                    self.restore(&resource, Some(ClientResource::Unconfirmed(Arc::clone(&resource))));
                }
                continue;
            }
            self.restore(&resource, before);
            self.rejected
                .insert(resource.version(), RejectedResource { resource: Arc::clone(&resource), certain });
            suspects.push(resource);
        }
        if let Some((now, target)) = newest
            && now != seq
        {
            self.forgive_what_was_corrected(target);
        }
        Blame { suspects, certain, version: Some(version) }
    }

    /// Puts back what the client had before a resource that it refused.
    fn restore(&mut self, refused: &Resource, before: Option<ClientResource>) {
        // A question has been answered now, though with something that the client does not like. If we
        // had sent the name before, it is still not sure that the client has that.
        let before = before.filter(|held| !matches!(held, ClientResource::Requested(None)));
        let name = refused.name();
        let same = |(later, _): &&mut Change| later.name() == name;
        let later = self.in_flight.iter_mut().flat_map(|response| &mut response.changed).find(same);
        if let Some((_, before_later)) = later {
            // A later response has replaced it already; it is that one's turn to be judged.
            *before_later = before;
        } else if self.subscription.covers(name) && self.held.contains_key(name) {
            self.set(Arc::clone(name), before);
        }
    }

    /// If the target corrects anything that the client refused, everything that was refused with it is
    /// due again: a client may have refused a whole response for one resource in it.
    ///
    /// Called only with a target that is newer than the refused response. A client that refuses whatever
    /// it is sent is so told everything once for each publication, and not for ever.
    pub(super) fn forgive_what_was_corrected(&mut self, target: &Resources) {
        let stands = |refused: &RejectedResource| {
            let one = &refused.resource;
            target.get(one.name()).is_some_and(|now| now.version() == one.version())
        };
        if !self.complains || (!self.rejected.is_empty() && self.rejected.values().all(stands)) {
            return;
        }
        let corrected = self.rejected.extract_if(|_, refused| !(stands(refused) && refused.certain));
        let names: Vec<_> = corrected.map(|(_, refused)| Arc::clone(refused.resource.name())).collect();
        self.dirty.extend(names);
        for name in std::mem::take(&mut self.beside) {
            if let Some(ClientResource::Sent(had)) = self.held.get(&name) {
                let had = Arc::clone(had);
                self.set(Arc::clone(&name), Some(ClientResource::Requested(Some(had))));
            }
            self.dirty.extend([name]);
        }
        self.complains = !self.rejected.is_empty();
        // Its refusal left it with what an earlier stream brought, of which we cannot tell the parts.
        self.must_respond |= self.has_unknown_resources;
    }
}

/// Whether a message names this resource as a separate word: it must not find `be` in `be-2`.
fn names(message: &str, name: &str) -> bool {
    let continues = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    message.match_indices(name).any(|(at, _)| {
        let before = message[..at].chars().next_back();
        let after = message[at + name.len()..].chars().next();
        !before.is_some_and(continues) && !after.is_some_and(continues)
    })
}
