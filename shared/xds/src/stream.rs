//! One client talking to us, without the network.
//!
//! ```text
//!   hear_sotw / hear_delta (a request) ─┐
//!   publish (a new snapshot)           ─┼─> state ──> due() ──> responses, in the order to send them
//!   give_up_waiting (the client dawdles)┘
//! ```
//!
//! Nothing here awaits, locks or sleeps. `server.rs` owns the socket and calls us; the tests call us
//! directly. **A request is up to three things at once**: it subscribes, it answers a response, and
//! the answer may be a complaint.

use std::sync::Arc;

use super::cache::{Published, Quarantine, Standing};
use super::frame::Dialect;
use super::order::{self, Awaited};
use super::resource::{PerType, Resource, ResourceType, Version};
use super::snapshot::Snapshot;
use super::track::{Blame, Difference, Held, IN_FLIGHT_LIMIT, InFlight, Resume, Stale, Track};
use super::{delta, sotw};

/// What the server is told about a client apart from what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Whether an empty list in its first request means "everything". gRPC clients never mean that.
    pub legacy_wildcard: bool,
}

impl Default for Traits {
    fn default() -> Self {
        Self { legacy_wildcard: true }
    }
}

/// What a request turned out to be, besides a subscription.
#[derive(Debug)]
pub enum Heard {
    /// It asks, and answers nothing.
    Ask,
    /// It accepts a response.
    Ack {
        /// The version that the response carried.
        version: Version,
        /// Whether it changes the subscription too.
        asks: bool,
    },
    /// It refuses a response.
    Nack {
        /// The client's words.
        message: String,
        /// The resources that they are about.
        blame: Blame,
    },
    /// It answers a response that a newer one has overtaken. State of the world: nothing in it counts.
    Stale,
    /// It names more than is kept for one client ([`SUBSCRIPTION_LIMIT`]); the stream has to end.
    ///
    /// [`SUBSCRIPTION_LIMIT`]: super::subscription::SUBSCRIPTION_LIMIT
    TooMuch,
}

/// The resources that a response carries.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Every resource of the type: bytes that all streams share.
    Everything(Arc<Snapshot>),
    /// These.
    These(Vec<Arc<Resource>>),
}

/// One response to send.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its dialect.
    pub dialect: Dialect,
    /// The type of its resources.
    pub kind: ResourceType,
    /// The version of all that the client holds once it accepted this.
    pub version: Version,
    /// What the client quotes when it answers.
    pub nonce: u64,
    /// What it carries.
    pub payload: Payload,
    /// Delta: names that are gone, or that never were.
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

    /// The names that it carries, in no order.
    pub fn names(&self) -> Vec<Arc<str>> {
        let name = |resource: &Arc<Resource>| Arc::clone(resource.name());
        match &self.payload {
            Payload::Everything(snapshot) => snapshot.of(self.kind).iter().map(name).collect(),
            Payload::These(resources) => resources.iter().map(name).collect(),
        }
    }
}

/// The state of one stream.
#[derive(Debug)]
pub struct Stream {
    dialect: Dialect,
    pub(super) traits: Traits,
    pub(super) target: Option<Arc<Published>>,
    pub(super) tracks: PerType<Track>,
    awaited: Awaited,
    last_nonce: u64,
}

impl Stream {
    /// A stream that just opened.
    pub fn new(dialect: Dialect, traits: Traits) -> Self {
        Self {
            dialect,
            traits,
            target: None,
            tracks: PerType::default(),
            awaited: Awaited::default(),
            last_nonce: 0,
        }
    }

    /// Takes a new snapshot for the client.
    pub fn publish(&mut self, published: Arc<Published>) {
        // Having seen the one before, we need to look only at what changed since.
        let seen_before = self.target.as_ref().is_some_and(|target| target.seq + 1 == published.seq);
        for kind in ResourceType::ALL {
            let track = &mut self.tracks[kind];
            if !track.subscription.has_begun() {
                continue;
            }
            if seen_before {
                let concerned =
                    |name: &&Arc<str>| track.subscription.wants(name) || track.holds(name).is_some();
                let changed: Vec<_> = published.changes[kind].iter().filter(concerned).cloned().collect();
                track.stale.extend(changed);
            } else {
                track.stale = Stale::All;
            }
            track.forgive_what_was_corrected(published.snapshot.of(kind));
        }
        let snapshot = &published.snapshot;
        self.awaited.settle(&self.tracks, |name| snapshot.get(ResourceType::Endpoints, name).is_some());
        self.target = Some(published);
    }

    /// Whether the client still has to ask for endpoints that it should need. A caller with a clock
    /// ends this after a while by [`give_up_waiting`](Self::give_up_waiting), or a client that takes
    /// its endpoints from elsewhere would never be settled.
    pub fn is_holding(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Stops waiting for the client to ask: it seems to have its endpoints from elsewhere.
    pub fn give_up_waiting(&mut self) {
        self.awaited.give_up();
    }

    /// How far the client has come.
    pub fn standing(&self) -> Standing {
        let Some(target) = &self.target else { return Standing::Busy };
        let (mut begun, mut settled) = (false, self.awaited.is_empty());
        for (_, track) in self.tracks.iter().filter(|(_, track)| track.subscription.has_begun()) {
            if track.complains() {
                return Standing::Refused(target.seq);
            }
            begun = true;
            settled &= track.is_settled();
        }
        if begun && settled { Standing::Settled(target.seq) } else { Standing::Busy }
    }

    /// All that may be sent now, in the order to send it.
    pub fn due(&mut self, quarantine: &Quarantine) -> Vec<Response> {
        let Some(target) = self.target.as_ref().map(|published| Arc::clone(&published.snapshot)) else {
            // No world yet. An empty answer would delete what a reconnecting client still has.
            return Vec::new();
        };
        let mut responses = Vec::new();
        // What one type has done may allow another one to go on, so look until nothing moves.
        loop {
            let mut moved = false;
            for kind in ResourceType::ALL {
                moved |= self.advance(kind, &target, quarantine, &mut responses);
            }
            if !moved {
                return responses;
            }
        }
    }

    /// Takes one type as far as it may go; returns whether anything changed.
    fn advance(
        &mut self,
        kind: ResourceType,
        target: &Arc<Snapshot>,
        quarantine: &Quarantine,
        responses: &mut Vec<Response>,
    ) -> bool {
        if !self.resume(kind, target, quarantine) {
            return false;
        }
        let track = &mut self.tracks[kind];
        if track.stale.is_none() && !track.must_answer {
            (track.asked, track.asked_for_all) = (false, false);
            return false;
        }
        let unasked = order::may_make(&self.tracks, &self.awaited, kind);
        let track = &self.tracks[kind];
        if !self.may_send(kind, track.asked) || !(track.asked || unasked) {
            return false;
        }
        let Difference { news, gone, missing } = track.difference(kind, target, quarantine);
        let (news, later): (Vec<_>, Vec<_>) =
            news.into_iter().partition(|one| self.may_go(one, target, unasked));
        if track.asked_for_all && !later.is_empty() {
            // The answer shall be complete: a client takes the first one for all that there is.
            return false;
        }
        let needed = order::still_needed(&self.tracks, kind, &gone);
        let (kept, gone): (Vec<_>, Vec<_>) = gone.into_iter().partition(|name| needed.contains(name));

        let seq = self.target.as_ref().map_or(0, |published| published.seq);
        let track = &mut self.tracks[kind];
        let was = std::mem::take(&mut track.stale);
        let mut news = news;
        for name in &kept {
            // Asked for while it waits to be taken away: the client gets what it is to keep till then.
            if let Some(Held::Asked(Some(had))) = track.holds(name)
                && !track.is_refused(had, quarantine)
            {
                news.push(Arc::clone(had));
            }
        }
        track.stale.extend(later.iter().map(|one| Arc::clone(one.name())).chain(kept));
        let moved = !matches!((&was, &track.stale), (Stale::Names(was), Stale::Names(left)) if was.len() == left.len());
        // What was asked for and waits is still `Held::Asked`, and so is still asked for.
        track.asked = later.iter().any(|one| matches!(track.holds(one.name()), Some(Held::Asked(_))));
        track.asked_for_all = false;
        let must_answer = std::mem::take(&mut track.must_answer);
        let had = track.take_away(&gone);
        missing.iter().for_each(|name| track.forget(name));
        let mut removed = gone;
        removed.extend(missing);
        let news = track.take_over(news);
        let respond = match self.dialect {
            Dialect::Sotw => sotw::has_to_respond(kind, &news, &removed),
            Dialect::Delta => !news.is_empty() || !removed.is_empty(),
        };
        if !respond && !must_answer {
            return moved;
        }
        let payload = match self.dialect {
            Dialect::Sotw if kind.is_root() => sotw::whole(track, kind, target),
            _ => some_or_all(news.iter().map(|(resource, _)| Arc::clone(resource)).collect(), kind, target),
        };
        if self.dialect == Dialect::Sotw {
            // There is no way to say it; what referred to it went away.
            removed.clear();
        }
        self.last_nonce += 1;
        track.nonce = self.last_nonce;
        let version = track.version();
        if kind == ResourceType::Cluster {
            let needed = news.iter().flat_map(|(resource, _)| resource.refers());
            let needed: Vec<_> = needed.filter(|to| to.kind == ResourceType::Endpoints).collect();
            self.awaited.extend(needed.into_iter().map(|to| Arc::clone(&to.name)), &self.tracks);
        }
        self.tracks[kind].in_flight.push(InFlight { nonce: self.last_nonce, seq, version, news, gone: had });
        responses.push(Response {
            dialect: self.dialect,
            kind,
            version,
            nonce: self.last_nonce,
            payload,
            removed,
        });
        if matches!(kind, ResourceType::Cluster | ResourceType::Endpoints) {
            let exists = |name: &str| target.get(ResourceType::Endpoints, name).is_some();
            self.awaited.settle(&self.tracks, exists);
        }
        true
    }

    /// Takes up what a reconnecting client said it has; returns whether that is done with.
    fn resume(&mut self, kind: ResourceType, target: &Snapshot, quarantine: &Quarantine) -> bool {
        let track = &mut self.tracks[kind];
        match track.resume.take() {
            None => true,
            Some(Resume::Each(versions)) => {
                delta::resume(track, versions, target.of(kind));
                true
            }
            Some(Resume::Whole(version)) => {
                let decided = sotw::resume(track, kind, &version, target, quarantine);
                if !decided {
                    track.resume = Some(Resume::Whole(version));
                }
                decided
            }
        }
    }

    /// Whether a resource may be sent now, as far as its own clusters are concerned. `unasked` says
    /// whether its type may be sent to a client that did not ask.
    fn may_go(&self, resource: &Resource, target: &Snapshot, unasked: bool) -> bool {
        let kind = resource.kind();
        if !matches!(kind, ResourceType::Listener | ResourceType::Route) {
            return true;
        }
        let track = &self.tracks[kind];
        let is_asked = track.asked_for_all || matches!(track.holds(resource.name()), Some(Held::Asked(_)));
        if is_asked {
            !order::waits_for_a_cluster(&self.tracks, target, resource)
        } else {
            unasked && order::has_its_clusters(&self.tracks, target, resource)
        }
    }

    /// Whether the client may be sent another response of this type before it answered the last one.
    ///
    /// Changes that nobody asked for wait, and are merged into one: the newest state is all that a
    /// slow client gets. So a stream never has more than a few responses outstanding.
    fn may_send(&self, kind: ResourceType, asked: bool) -> bool {
        let waiting = self.tracks[kind].in_flight.len();
        match self.dialect {
            Dialect::Sotw => waiting == 0,
            Dialect::Delta => waiting == 0 || (asked && waiting < IN_FLIGHT_LIMIT),
        }
    }

    /// Shares the snapshot's string for a name, where there is one, instead of keeping our own.
    pub(super) fn intern<'a>(
        target: Option<&'a Arc<Published>>,
        kind: ResourceType,
    ) -> impl Fn(&str) -> Arc<str> + use<'a> {
        move |name| {
            let known = target.and_then(|published| published.snapshot.get(kind, name));
            known.map_or_else(|| name.into(), |resource| Arc::clone(resource.name()))
        }
    }
}

/// `resources`, or the shared bytes of all of them if they are all that there is.
pub(super) fn some_or_all(
    resources: Vec<Arc<Resource>>,
    kind: ResourceType,
    target: &Arc<Snapshot>,
) -> Payload {
    let all = target.of(kind);
    let version = || resources.iter().fold(Version::NONE, |sum, one| sum.with(one.version()));
    if resources.len() > 1 && resources.len() == all.len() && version() == all.version() {
        Payload::Everything(Arc::clone(target))
    } else {
        Payload::These(resources)
    }
}
