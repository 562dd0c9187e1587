//! State of the world: each request lists all names, each response one version for all of a type.
//!
//! What sets this dialect apart: leaving a name out unsubscribes it; a cluster or listener that is
//! left out of a response is deleted; nothing else can be deleted at all; and an answer to an
//! overtaken response does not count.

use std::collections::HashSet;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::cache::Quarantine;
use super::resource::{Resource, ResourceType, Version};
use super::snapshot::Snapshot;
use super::stream::{Heard, Payload, Stream};
use super::subscription::SUBSCRIPTION_LIMIT;
use super::track::{Held, Resume, Stale, Track};

impl Stream {
    /// Takes a state-of-the-world request for resources of this type.
    pub fn hear_sotw(&mut self, kind: ResourceType, request: &DiscoveryRequest) -> Heard {
        let intern = Self::intern(self.target.as_ref(), kind);
        let track = &mut self.tracks[kind];
        let first = !track.subscription.has_begun();
        let nonce = request.response_nonce.as_str();
        // A nonce in a first request is one of an earlier stream, and died with it.
        let mut heard = if first || nonce.is_empty() {
            Heard::Ask
        } else if nonce.parse() != Ok(track.nonce) {
            let listed: HashSet<&str> = request.resource_names.iter().map(String::as_str).collect();
            let left_out = track.subscription.names().filter(|name| !listed.contains(&***name));
            track.left_out.extend(left_out.cloned());
            return Heard::Stale;
        } else if let Some(error) = &request.error_detail {
            let newest = self.target.as_ref().map(|target| (target.seq, target.snapshot.of(kind)));
            let blame = track.refuse(track.nonce, &error.message, kind.is_root(), newest);
            Heard::Nack { message: error.message.clone(), blame }
        } else if let Some(version) = track.accept(track.nonce) {
            Heard::Ack { version, asks: false }
        } else {
            Heard::Ask
        };
        let asked = track.subscription.replace(&request.resource_names, self.traits.legacy_wildcard, intern);
        if track.subscription.size() > SUBSCRIPTION_LIMIT {
            return Heard::TooMuch;
        }
        if let Heard::Ack { asks, .. } = &mut heard {
            *asks = asked.is_something();
        }
        if asked.dropped_everything || !asked.dropped.is_empty() {
            track.forget_unwanted();
        }
        if first && !request.version_info.is_empty() {
            track.resume = Some(Resume::Whole(request.version_info.clone()));
            track.asked = true;
            track.asked_for_all = true;
            return heard;
        }
        // A name that is new in the list is owed an answer, even if the wildcard brought it before.
        asked.names.into_iter().for_each(|name| track.owe(name));
        for name in std::mem::take(&mut track.left_out) {
            if track.subscription.wants(&name) {
                track.owe(name);
            }
        }
        if asked.everything {
            track.stale = Stale::All;
            track.asked = true;
            track.asked_for_all = true;
            // Even an empty world has to be told, or the client would go on waiting for one.
            track.must_answer |= kind.is_root();
        }
        heard
    }
}

/// A reconnecting client told the version of all that it has. If what it would be sent has that version,
/// it has everything; for the version is a hash of names and content.
///
/// Returns whether that could be decided. It cannot as long as all that we could send of some resource was
/// refused, and the client may have an older one: a full response would have to leave it out, and so
/// delete what works. What else is new waits with it; silence harms least.
pub(super) fn resume(
    track: &mut Track,
    kind: ResourceType,
    text: &str,
    target: &Snapshot,
    quarantine: &Quarantine,
) -> bool {
    let resources = target.of(kind);
    let there: Vec<&Arc<Resource>> = if track.subscription.is_wildcard() {
        resources.iter().collect()
    } else {
        track.subscription.names().filter_map(|name| resources.get(name)).collect()
    };
    let best = there.iter().map(|one| track.best(one, target, quarantine)).collect::<Vec<_>>();
    let is_said = |set: &[&Arc<Resource>]| {
        set.iter().fold(Version::NONE, |sum, one| sum.with(one.version())).is_written(text)
    };
    // What was accepted last did not have it: then there is nothing to lose.
    let had =
        |one: &Resource| quarantine.accepted.as_ref().is_none_or(|all| all.get(kind, one.name()).is_some());
    let may_lose = there.iter().zip(&best).any(|(one, best)| best.is_none() && had(one));
    let allowed: Vec<_> = best.iter().copied().flatten().collect();
    // It may have taken over what another client of its group refused: then it is content.
    let has = [there, allowed].into_iter().find(|set| is_said(set));
    if let Some(has) = has {
        let has: Vec<_> = has.into_iter().cloned().collect();
        has.into_iter().for_each(|resource| drop(track.hold(resource)));
    } else if kind.is_root() && may_lose {
        return false;
    } else {
        track.stale = Stale::All;
        track.must_answer = kind.is_root();
        track.is_foreign = kind.is_root();
    }
    true
}

/// Whether a change has to be told: news always, removals only of types that can be deleted.
pub(super) fn has_to_respond(
    kind: ResourceType,
    news: &[(Arc<Resource>, Option<Held>)],
    removed: &[Arc<str>],
) -> bool {
    !news.is_empty() || (kind.is_root() && !removed.is_empty())
}

/// All that the client subscribes to of a type, which is what a response of a root type has to carry.
pub(super) fn whole(track: &Track, kind: ResourceType, target: &Arc<Snapshot>) -> Payload {
    let all = target.of(kind);
    if track.version() == all.version() && track.sent().count() == all.len() {
        return Payload::Everything(Arc::clone(target));
    }
    Payload::These(track.sent().cloned().collect())
}
