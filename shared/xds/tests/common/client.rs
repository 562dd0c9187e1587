//! A client without a network: what it asks, how it answers, what it then holds.
//!
//! It drives a `Stream` directly, and reads every response from the bytes that would go out, with the
//! generated messages, so that the encoder is tested with everything else.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::{protobuf::Any, rpc::Status};
use mesh_xds::cache::{Published, Quarantine, Standing};
use mesh_xds::frame::{Dialect, Frame};
use mesh_xds::resource::PerType;
use mesh_xds::stream::{Heard, Response, Stream, Traits};
use mesh_xds::track::IN_FLIGHT_LIMIT;
use mesh_xds::{Resource, ResourceType, Snapshot};
use prost::Message as _;

use super::world::{World, any_of};

/// One response as the client reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Got {
    pub kind: ResourceType,
    pub version: String,
    pub nonce: String,
    pub items: Vec<Item>,
    pub removed: Vec<String>,
}

/// One resource in it; only delta tells its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub name: String,
    pub version: String,
    pub any: Any,
}

impl fmt::Display for Got {
    /// `CDS a b -c`: its type, what it carries, what it tells to be gone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        let mut names: Vec<_> = self.items.iter().map(|item| item.name.as_str()).collect();
        names.sort_unstable();
        names.iter().try_for_each(|name| write!(f, " {name}"))?;
        let mut removed = self.removed.clone();
        removed.sort_unstable();
        removed.iter().try_for_each(|name| write!(f, " -{name}"))
    }
}

/// The responses in short.
pub fn told(got: &[Got]) -> Vec<String> {
    got.iter().map(Got::to_string).collect()
}

/// What the client knows of one type.
#[derive(Clone, Debug, Default)]
pub struct Side {
    pub begun: bool,
    /// Whether it ever gave a name on this stream; until then an empty list is the wildcard.
    pub named: bool,
    pub names: BTreeSet<String>,
    pub nonce: String,
    pub version: String,
    /// By name; the version is delta's.
    pub held: BTreeMap<String, (String, Any)>,
    /// Nonces of responses that were not answered.
    pub unanswered: Vec<String>,
}

impl Side {
    /// Any request that quotes a response's nonce answers it, and what came before it.
    fn answers(&mut self, nonce: &str) {
        if let Some(at) = self.unanswered.iter().position(|waits| waits == nonce) {
            self.unanswered.drain(..=at);
        }
    }

    /// Whether it asked for everything, in either spelling.
    pub fn is_wildcard(&self) -> bool {
        self.names.contains("*") || (self.begun && !self.named)
    }
}

/// A client and the stream that serves it.
pub struct Client {
    pub dialect: Dialect,
    pub stream: Stream,
    pub sides: PerType<Side>,
    pub quarantine: Quarantine,
    /// What the last request turned out to be.
    pub heard: Option<Heard>,
    /// Whether refused versions are kept from later streams, as a server's cache does.
    pub quarantines: bool,
    /// Resources that it certainly refused; they must not come again.
    pub refused: Vec<Any>,
    traits: Traits,
    published: Option<Arc<Published>>,
}

/// Runs a test in both dialects.
pub fn both(test: impl Fn(Client)) {
    for dialect in [Dialect::Sotw, Dialect::Delta] {
        test(Client::new(dialect));
    }
}

impl Client {
    pub fn new(dialect: Dialect) -> Self {
        Self::with(dialect, Traits::default())
    }

    pub fn with(dialect: Dialect, traits: Traits) -> Self {
        Self {
            dialect,
            stream: Stream::new(dialect, traits),
            sides: PerType::default(),
            quarantine: Quarantine::default(),
            heard: None,
            quarantines: false,
            refused: Vec::new(),
            traits,
            published: None,
        }
    }

    pub fn is_sotw(&self) -> bool {
        self.dialect == Dialect::Sotw
    }

    /// The control plane publishes a world.
    pub fn publish(&mut self, world: &World) -> Vec<Got> {
        self.publish_snapshot(world.snapshot())
    }

    pub fn publish_snapshot(&mut self, snapshot: Arc<Snapshot>) -> Vec<Got> {
        let before = self.published.as_ref();
        let published = Arc::new(Published {
            seq: before.map_or(1, |before| before.seq + 1),
            at: Instant::now(),
            changes: before.map_or_else(
                || snapshot.changes_since(&Snapshot::default()),
                |before| snapshot.changes_since(&before.snapshot),
            ),
            snapshot,
        });
        self.published = Some(Arc::clone(&published));
        self.stream.publish(published);
        self.due()
    }

    /// The control plane publishes, and this client's stream is too busy to notice.
    pub fn publish_unnoticed(&mut self, world: &World) {
        let seq = self.published.as_ref().map_or(1, |before| before.seq + 1);
        let snapshot = world.snapshot();
        let changes = snapshot.changes_since(&Snapshot::default());
        self.published = Some(Arc::new(Published { seq, at: Instant::now(), changes, snapshot }));
    }

    /// What the server says on its own account, decoded.
    pub fn due(&mut self) -> Vec<Got> {
        let responses = self.stream.due(&self.quarantine);
        responses.into_iter().map(|response| self.receive(response)).collect()
    }

    fn receive(&mut self, response: Response) -> Got {
        let got = decode(response);
        let again = got.items.iter().find(|item| self.refused.contains(&item.any));
        assert!(again.is_none(), "{} was refused and is sent again", again.unwrap().name);
        let unanswered = &mut self.sides[got.kind].unanswered;
        unanswered.push(got.nonce.clone());
        let limit = if self.dialect == Dialect::Sotw { 1 } else { IN_FLIGHT_LIMIT };
        assert!(unanswered.len() <= limit, "{} responses of {} wait", unanswered.len(), got.kind);
        got
    }

    /// Subscribes to exactly these names; an empty list in a first request is the wildcard's older form.
    pub fn ask(&mut self, kind: ResourceType, names: &[&str]) -> Vec<Got> {
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let side = &mut self.sides[kind];
        let had = std::mem::replace(&mut side.names, wanted.clone());
        side.begun = true;
        side.named |= !wanted.is_empty();
        if !side.is_wildcard() {
            side.held.retain(|name, _| wanted.contains(name));
        }
        if self.is_sotw() {
            return self.ask_sotw(kind, |_| {});
        }
        let add = wanted.difference(&had).cloned().collect();
        let drop = had.difference(&wanted).cloned().collect();
        self.ask_delta(kind, |request| {
            request.resource_names_subscribe = add;
            request.resource_names_unsubscribe = drop;
        })
    }

    /// A state-of-the-world request with the nonce, the version and the names that stand, and a change.
    pub fn ask_sotw(&mut self, kind: ResourceType, change: impl FnOnce(&mut DiscoveryRequest)) -> Vec<Got> {
        let side = &mut self.sides[kind];
        side.begun = true;
        let mut request = DiscoveryRequest {
            type_url: kind.url().to_owned(),
            version_info: side.version.clone(),
            response_nonce: side.nonce.clone(),
            resource_names: side.names.iter().cloned().collect(),
            ..DiscoveryRequest::default()
        };
        change(&mut request);
        self.sides[kind].answers(&request.response_nonce);
        let heard = self.stream.hear_sotw(kind, &request);
        self.note(heard)
    }

    /// A delta request that says nothing but what `change` puts into it.
    pub fn ask_delta(
        &mut self,
        kind: ResourceType,
        change: impl FnOnce(&mut DeltaDiscoveryRequest),
    ) -> Vec<Got> {
        self.sides[kind].begun = true;
        let mut request =
            DeltaDiscoveryRequest { type_url: kind.url().to_owned(), ..DeltaDiscoveryRequest::default() };
        change(&mut request);
        self.sides[kind].answers(&request.response_nonce);
        let heard = self.stream.hear_delta(kind, &mut request);
        self.note(heard)
    }

    fn note(&mut self, heard: Heard) -> Vec<Got> {
        if let Heard::Nack { blame, .. } = &heard
            && self.quarantines
            && blame.certain
        {
            self.quarantine.versions.extend(blame.suspects.iter().map(|resource| resource.version()));
        }
        self.heard = Some(heard);
        let got = self.due();
        self.note_acceptance();
        got
    }

    /// What a cache does that has this client only.
    fn note_acceptance(&mut self) {
        if let (true, Some(published)) = (self.quarantines, &self.published)
            && self.stream.standing() == Standing::Settled(published.seq)
            && !self.quarantine.bars(&published.snapshot)
        {
            self.quarantine.accepted = Some(Arc::clone(&published.snapshot));
        }
    }

    /// Accepts a response.
    pub fn ack(&mut self, got: &Got) -> Vec<Got> {
        self.take_over(got, |_| true);
        self.sides[got.kind].version = got.version.clone();
        self.answer(got, None)
    }

    /// Refuses a response as a whole, with these words.
    pub fn nack(&mut self, got: &Got, message: &str) -> Vec<Got> {
        self.answer(got, Some(message))
    }

    /// Refuses the resources with these names, and keeps the others of the response, as gRPC does.
    pub fn nack_names(&mut self, got: &Got, bad: &[&str]) -> Vec<Got> {
        self.take_over(got, |name| !bad.contains(&name));
        self.answer(got, Some(&format!("I do not like {}", bad.join(", "))))
    }

    fn answer(&mut self, got: &Got, complaint: Option<&str>) -> Vec<Got> {
        let error_detail =
            complaint.map(|message| Status { code: 3, message: message.to_owned(), ..Status::default() });
        self.sides[got.kind].nonce = got.nonce.clone();
        if self.is_sotw() {
            self.ask_sotw(got.kind, |request| request.error_detail = error_detail)
        } else {
            let nonce = got.nonce.clone();
            self.ask_delta(got.kind, |request| {
                request.response_nonce = nonce;
                request.error_detail = error_detail;
            })
        }
    }

    /// Takes a response over before answering it.
    pub fn take(&mut self, got: &Got) {
        self.take_over(got, |_| true);
    }

    /// Takes a response over but for the resources with these names.
    pub fn take_all_but(&mut self, got: &Got, bad: &[&str]) {
        self.take_over(got, |name| !bad.contains(&name));
    }

    fn take_over(&mut self, got: &Got, good: impl Fn(&str) -> bool) {
        let side = &mut self.sides[got.kind];
        let wildcard = side.is_wildcard();
        if self.dialect == Dialect::Sotw && got.kind.is_root() {
            let listed: BTreeSet<_> = got.items.iter().map(|item| item.name.as_str()).collect();
            side.held.retain(|name, _| listed.contains(name.as_str()));
        }
        for item in got.items.iter().filter(|item| good(&item.name)) {
            if wildcard || side.names.contains(&item.name) {
                side.held.insert(item.name.clone(), (item.version.clone(), item.any.clone()));
            }
        }
        for name in &got.removed {
            side.held.remove(name);
        }
    }

    /// Accepts everything until the server has nothing more to say; returns all responses.
    pub fn settle(&mut self, got: Vec<Got>) -> Vec<Got> {
        let mut all = Vec::new();
        let mut queue: std::collections::VecDeque<Got> = got.into();
        while let Some(next) = queue.pop_front() {
            queue.extend(self.ack(&next));
            all.push(next);
            assert!(all.len() < 200, "the server never comes to rest");
        }
        all
    }

    /// Asks like Envoy: all clusters and listeners, the endpoints and routes that they need, ACKs all.
    pub fn start_like_envoy(&mut self, world: &World) {
        let mut first = self.publish(world);
        for (kind, names) in [
            (ResourceType::Cluster, vec![]),
            (ResourceType::Endpoints, world.clusters.keys().map(String::as_str).collect()),
            (ResourceType::Listener, vec![]),
            (ResourceType::Route, world.listeners.values().map(|(_, route)| route.as_str()).collect()),
        ] {
            if matches!(kind, ResourceType::Endpoints | ResourceType::Route) && names.is_empty() {
                continue;
            }
            first.extend(self.ask(kind, &names));
            let got = std::mem::take(&mut first);
            self.settle(got);
        }
    }

    /// Loses the stream, keeps what it holds, and opens another one.
    pub fn reconnect(&mut self) {
        self.stream = Stream::new(self.dialect, self.traits);
        for kind in ResourceType::ALL {
            let side = &mut self.sides[kind];
            side.nonce.clear();
            side.unanswered.clear();
            // A type of which it wants nothing any more is not asked for on the new stream.
            side.begun &= !side.named || !side.names.is_empty();
            side.named &= side.begun;
        }
        if let Some(published) = &self.published {
            self.stream.publish(Arc::clone(published));
        }
    }

    /// Asks on a new stream for what it asked on the old one, and says what it has.
    pub fn resume(&mut self, kind: ResourceType) -> Vec<Got> {
        if self.is_sotw() {
            return self.ask_sotw(kind, |_| {});
        }
        let side = &self.sides[kind];
        let names = side.names.iter().cloned().collect();
        let held = side.held.iter().map(|(name, (version, _))| (name.clone(), version.clone())).collect();
        self.ask_delta(kind, |request| {
            request.resource_names_subscribe = names;
            request.initial_resource_versions = held;
        })
    }

    /// The names that it holds of a type.
    pub fn holds(&self, kind: ResourceType) -> Vec<&str> {
        self.sides[kind].held.keys().map(String::as_str).collect()
    }

    /// Whether it holds exactly this resource.
    pub fn has(&self, resource: &Resource) -> bool {
        let held = self.sides[resource.kind()].held.get(&**resource.name());
        held.is_some_and(|(_, any)| *any == any_of(resource))
    }
}

/// Writes a response as the server does, and reads it as a client does.
pub fn decode(response: Response) -> Got {
    let (dialect, kind) = (response.dialect, response.kind);
    let frame = Frame::new(response);
    let length = frame.length();
    let bytes: Vec<u8> = frame.flatten().collect();
    assert_eq!(bytes.len(), length);
    let (prefix, body) = bytes.split_at(5);
    assert_eq!(prefix[0], 0, "not compressed");
    assert_eq!(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize, body.len());
    let got = match dialect {
        Dialect::Sotw => read_sotw(kind, DiscoveryResponse::decode(body).unwrap()),
        Dialect::Delta => read_delta(kind, DeltaDiscoveryResponse::decode(body).unwrap()),
    };
    let names: Vec<_> = got.items.iter().map(|item| &item.name).chain(&got.removed).collect();
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "a name stands twice in {got}");
    got
}

pub fn read_sotw(kind: ResourceType, response: DiscoveryResponse) -> Got {
    assert_eq!(response.type_url, kind.url());
    let items = response.resources.into_iter().map(|any| {
        let name = Resource::from_any(&any).unwrap().name().to_string();
        Item { name, version: String::new(), any }
    });
    Got {
        kind,
        items: items.collect(),
        version: response.version_info,
        nonce: response.nonce,
        removed: Vec::new(),
    }
}

pub fn read_delta(kind: ResourceType, response: DeltaDiscoveryResponse) -> Got {
    assert_eq!(response.type_url, kind.url());
    let items = response.resources.into_iter().map(|one| {
        let any = one.resource.unwrap();
        assert_eq!(one.name, &**Resource::from_any(&any).unwrap().name());
        Item { name: one.name, version: one.version, any }
    });
    Got {
        kind,
        items: items.collect(),
        version: response.system_version_info,
        nonce: response.nonce,
        removed: response.removed_resources,
    }
}
