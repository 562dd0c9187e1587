//! State of the world: each request lists all names, each response one version for all of a type.
//!
//! What sets this dialect apart: leaving a name out unsubscribes it; a cluster or listener that is
//! left out of a response is deleted; nothing else can be deleted at all; and an answer to an
//! overtaken response does not count.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::cache::Quarantine;
use super::resource::{Resource, ResourceType, Version};
use super::snapshot::{Resources, Snapshot};
use super::stream::{Heard, Payload, Stream};
use super::track::{Held, Resume, Stale, Track};

impl Stream {
    /// Takes a state-of-the-world request for resources of this type.
    pub fn hear_sotw(&mut self, kind: ResourceType, request: &DiscoveryRequest) -> Heard {
        let intern = Self::intern(self.target.as_ref(), kind);
        let track = &mut self.tracks[kind];
        let first = !track.subscription.has_begun();
        let nonce = request.response_nonce.as_str();
        // A nonce in a first request is one of an earlier stream, and died with it.
        let heard = if first || nonce.is_empty() {
            Heard::Ask
        } else if nonce.parse() != Ok(track.nonce) {
            return Heard::Stale;
        } else if let Some(error) = &request.error_detail {
            Heard::Nack { message: error.message.clone(), suspects: track.refuse(track.nonce) }
        } else if track.accept(track.nonce) {
            Heard::Ack
        } else {
            Heard::Ask
        };
        let asked = track.subscription.replace(&request.resource_names, self.traits.legacy_wildcard, intern);
        if asked.dropped_everything || !asked.dropped.is_empty() {
            track.forget_unwanted();
        }
        if first && !request.version_info.is_empty() {
            track.resume = Some(Resume::Whole(request.version_info.clone()));
            track.asked = true;
        } else if asked.everything {
            track.stale = Stale::All;
            track.asked = true;
            // Even an empty world has to be told, or the client would go on waiting for one.
            track.must_answer |= kind.is_root();
        } else if first {
            track.stale = Stale::All;
            track.asked = true;
        } else if !asked.names.is_empty() {
            track.stale.extend(asked.names);
            track.asked = true;
        }
        heard
    }
}

/// A reconnecting client told the version of all that it has. If what it would be sent has that version,
/// it has everything; for the version is a hash of names and content.
pub(super) fn resume(
    track: &mut Track,
    kind: ResourceType,
    resume: &Resume,
    resources: &Resources,
    quarantine: &Quarantine,
) {
    let Resume::Whole(text) = resume else { return };
    let best = |one| track.best(kind, one, quarantine).cloned();
    let wanted: Vec<Arc<Resource>> = if track.subscription.is_wildcard() {
        resources.iter().filter_map(best).collect()
    } else {
        let there = track.subscription.names().filter_map(|name| resources.get(name));
        there.filter_map(best).collect()
    };
    let version = wanted.iter().fold(Version::NONE, |sum, one| sum.with(one.version()));
    if version.is_written(text) {
        wanted.into_iter().for_each(|resource| drop(track.hold(resource)));
    } else {
        track.stale = Stale::All;
        track.must_answer = kind.is_root() && track.subscription.is_wildcard();
    }
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
