//! A client's answers: what it has after an ACK, and whom a NACK is about.
//!
//! A refusal tells little: the client quotes a response and gives a reason in words. What it kept of
//! that response is its own business, so what is not known is neither claimed nor forgotten here.

use std::sync::Arc;

use super::super::resource::{Resource, Version};
use super::super::snapshot::Resources;
use super::{Held, InFlight, Track};

/// How much of a complaint is searched for names, in bytes: a long one shall not cost us time.
const COMPLAINT_READ: usize = 64 * 1024;

/// A resource that the client refused.
#[derive(Debug)]
pub(super) struct Refused {
    resource: Arc<Resource>,
    /// Whether the client named it, or it was the only new one. Otherwise it is a suspect, and may be
    /// tried again once another suspect was corrected.
    certain: bool,
}

/// What a client's complaint was about.
#[derive(Debug, Default)]
pub struct Blame {
    /// The resources that must contain the cause.
    pub suspects: Vec<Arc<Resource>>,
    /// Whether each of them does.
    pub certain: bool,
    /// The version of the response; none if that is not known any more.
    pub version: Option<Version>,
}

impl Track {
    /// The client accepted a response. Returns its version, if it was still unanswered.
    ///
    /// Responses that were sent before it count as answered too, for a client answers in order.
    pub fn accept(&mut self, nonce: u64) -> Option<Version> {
        let at = self.in_flight.iter().position(|response| response.nonce == nonce)?;
        let version = self.in_flight[at].version;
        self.is_foreign = false;
        let answered = self.in_flight.drain(..=at);
        if self.leftovers.is_empty() {
            // Nearly always; then there is no need to look at every name again.
            return Some(version);
        }
        for response in answered {
            response.news.iter().for_each(|(resource, _)| drop(self.leftovers.remove(resource.name())));
            response.gone.iter().for_each(|(name, _)| drop(self.leftovers.remove(name)));
        }
        Some(version)
    }

    /// The client refused a response: it keeps what it had of the culprits.
    ///
    /// Of the other resources in the response it may keep the new versions (gRPC does, and Envoy does
    /// for clusters and listeners), or not. `deletes` says whether what it keeps would ever have to be
    /// deleted: then it is taken to keep them, so that no full response leaves them out and each removal
    /// is told. Otherwise it is taken not to, so that no version claims what it may not have.
    ///
    /// The complaint may come too late: `newest` is the target now, with its number.
    pub fn refuse(
        &mut self,
        nonce: u64,
        complaint: &str,
        deletes: bool,
        newest: Option<(u64, &Resources)>,
    ) -> Blame {
        let Some(at) = self.in_flight.iter().position(|response| response.nonce == nonce) else {
            return Blame::default();
        };
        let Some(InFlight { news, gone, seq, version, .. }) = self.in_flight.drain(..=at).next_back() else {
            return Blame::default();
        };
        self.complains = true;
        for (name, had) in gone {
            // It may have let this go, or not: the removal is due again with a correction, and the
            // resource should it come back. Until then nothing is said.
            if self.subscription.wants(&name) && !self.held.contains_key(&name) {
                self.beside.insert(Arc::clone(&name));
                let unsure = had.resource().map_or(Held::Other, |had| Held::Asked(Some(Arc::clone(had))));
                self.set(name, Some(unsure));
            }
        }
        let complaint = &complaint[..complaint.floor_char_boundary(COMPLAINT_READ)];
        let is_named = |resource: &Resource| names(complaint, resource.name());
        let named = news.iter().any(|(resource, _)| is_named(resource));
        let certain = named || news.len() == 1;
        let mut suspects = Vec::new();
        for (resource, before) in news {
            if named && !is_named(&resource) {
                self.beside.insert(Arc::clone(resource.name()));
                if let Some(had) = before.as_ref().and_then(Held::resource)
                    && self.subscription.wants(resource.name())
                {
                    self.leftovers.entry(Arc::clone(resource.name())).or_insert_with(|| Arc::clone(had));
                }
                if !deletes {
                    self.restore(&resource, Some(Held::Maybe(Arc::clone(&resource))));
                }
                continue;
            }
            self.restore(&resource, before);
            self.refused.insert(resource.version(), Refused { resource: Arc::clone(&resource), certain });
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
    fn restore(&mut self, refused: &Resource, before: Option<Held>) {
        // A question has been answered now, though with something that the client does not like. If we
        // had sent the name before, it is still not sure that the client has that.
        let before = before.filter(|held| !matches!(held, Held::Asked(None)));
        let name = refused.name();
        let same = |(later, _): &&mut (Arc<Resource>, Option<Held>)| later.name() == name;
        let later = self.in_flight.iter_mut().flat_map(|response| &mut response.news).find(same);
        if let Some((_, before_later)) = later {
            // A later response has replaced it already; it is that one's turn to be judged.
            *before_later = before;
        } else if self.subscription.wants(name) && self.held.contains_key(name) {
            self.set(Arc::clone(name), before);
        }
    }

    /// If the target corrects anything that the client refused, everything that was refused with it is
    /// due again: a client may have refused a whole response for one resource in it.
    ///
    /// Called only with a target that is newer than the refused response. A client that refuses whatever
    /// it is sent is so told everything once for each publication, and not for ever.
    pub fn forgive_what_was_corrected(&mut self, target: &Resources) {
        let stands = |refused: &Refused| {
            let one = &refused.resource;
            target.get(one.name()).is_some_and(|now| now.version() == one.version())
        };
        if !self.complains || (!self.refused.is_empty() && self.refused.values().all(stands)) {
            return;
        }
        let corrected = self.refused.extract_if(|_, refused| !(stands(refused) && refused.certain));
        let names: Vec<_> = corrected.map(|(_, refused)| Arc::clone(refused.resource.name())).collect();
        self.stale.extend(names);
        for name in std::mem::take(&mut self.beside) {
            if let Some(Held::Sent(had)) = self.held.get(&name) {
                let had = Arc::clone(had);
                self.set(Arc::clone(&name), Some(Held::Asked(Some(had))));
            }
            self.stale.extend([name]);
        }
        self.complains = !self.refused.is_empty();
        // Its refusal left it with what an earlier stream brought, of which we cannot tell the parts.
        self.must_answer |= self.is_foreign;
    }
}

/// Whether a complaint names this resource: as a word of its own, so that `be` is not found in `be-2`.
fn names(complaint: &str, name: &str) -> bool {
    let continues = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    complaint.match_indices(name).any(|(at, _)| {
        let before = complaint[..at].chars().next_back();
        let after = complaint[at + name.len()..].chars().next();
        !before.is_some_and(continues) && !after.is_some_and(continues)
    })
}
