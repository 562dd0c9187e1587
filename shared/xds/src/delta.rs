//! Incremental: requests add and drop names, responses carry only what changed, each resource with a
//! version of its own.
//!
//! What sets this dialect apart: names are told to be gone, or never to have been; every request
//! counts, whichever response it answers; a name that is asked for again is sent again; and a
//! reconnecting client lists what it still has.

use std::collections::HashMap;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::resource::ResourceType;
use super::snapshot::Resources;
use super::stream::{Heard, Stream};
use super::subscription::SUBSCRIPTION_LIMIT;
use super::track::{Resume, Stale, Track};

impl Stream {
    /// Takes an incremental request for resources of this type.
    pub fn hear_delta(&mut self, kind: ResourceType, request: &mut DeltaDiscoveryRequest) -> Heard {
        let intern = Self::intern(self.target.as_ref(), kind);
        let track = &mut self.tracks[kind];
        let first = !track.subscription.has_begun();
        let mut heard = match (request.response_nonce.parse::<u64>(), &request.error_detail) {
            // Without a nonce of ours: a change of the subscription, of its own accord.
            (Err(_), None) => Heard::Ask,
            (Ok(nonce), None) => {
                let accepted = track.accept(nonce);
                accepted.map_or(Heard::Stale, |version| Heard::Ack { version, asks: false })
            }
            (nonce, Some(error)) => {
                let newest = self.target.as_ref().map(|target| (target.seq, target.snapshot.of(kind)));
                let refuse = |nonce| track.refuse(nonce, &error.message, true, newest);
                let blame = nonce.map(refuse).unwrap_or_default();
                Heard::Nack { message: error.message.clone(), blame }
            }
        };
        let asked = track.subscription.adjust(
            &request.resource_names_subscribe,
            &request.resource_names_unsubscribe,
            self.traits.legacy_wildcard,
            intern,
        );
        if track.subscription.size() > SUBSCRIPTION_LIMIT {
            return Heard::TooMuch;
        }
        if let Heard::Ack { asks, .. } = &mut heard {
            *asks = asked.is_something();
        }
        if asked.dropped_everything {
            track.forget_unwanted();
        }
        for name in asked.dropped {
            if track.subscription.is_wildcard() {
                // Still covered by `*`; the client cannot know whether it may keep it, and is told.
                track.owe(name);
            } else {
                track.forget(&name);
            }
        }
        track.reserve(asked.names.len());
        for name in asked.names {
            // A name may stand in both lists of one request; dropping it is the last word then.
            if track.subscription.wants(&name) {
                track.owe(name);
            }
        }
        let initial = std::mem::take(&mut request.initial_resource_versions);
        if asked.everything {
            track.doubt_what_is_in_flight();
            track.stale = Stale::All;
            track.asked = true;
            track.asked_for_all = true;
            // Even an empty world has to be told, except to a client that already had one.
            track.must_answer = initial.is_empty();
        }
        if first && !initial.is_empty() {
            track.resume = Some(Resume::Each(initial));
            track.asked = true;
            track.asked_for_all = true;
        }
        heard
    }
}

/// A reconnecting client told the version of each resource that it has.
pub(super) fn resume(track: &mut Track, versions: HashMap<String, String>, resources: &Resources) {
    for (name, version) in versions {
        if !track.subscription.wants(&name) {
            continue;
        }
        match resources.get(&name) {
            Some(resource) if resource.version().is_written(&version) => drop(track.hold(resource.clone())),
            // Another version, or deleted while the client was away: told either way.
            _ => track.doubt(name.into()),
        }
    }
    track.stale = Stale::All;
}
