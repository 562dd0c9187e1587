//! A client without a network: its requests, its answers, and the resources that it holds.
//!
//! It calls a `StreamState` directly. It decodes every response from the bytes that would go out, with the generated
//! messages, so that the tests cover the encoder too.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::{protobuf::Any, rpc::Status};
use mesh_xds::client_quirks::ClientQuirks;
use mesh_xds::frame::Frame;
use mesh_xds::publication::Publication;
use mesh_xds::resource_type::PerType;
use mesh_xds::response::{RequestOutcome, Response};
use mesh_xds::stream_state::{IN_FLIGHT_LIMIT, StreamState};
use mesh_xds::{Resource, ResourceType, Snapshot, XdsVariant};
use prost::Message as _;

use super::topology::{Topology, any_of};

/// One response as the client reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub kind: ResourceType,
    pub version: String,
    pub nonce: String,
    pub items: Vec<Item>,
    pub removed: Vec<String>,
}

/// One resource in it. Only delta responses have its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub name: String,
    pub version: String,
    pub any: Any,
}

impl fmt::Display for Received {
    /// Writes `CDS a b -c`: the type, the names of its resources, and the removed names.
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

/// A summary of each response.
pub fn summaries(got: &[Received]) -> Vec<String> {
    got.iter().map(Received::to_string).collect()
}

/// What the client knows of one type.
#[derive(Clone, Debug, Default)]
pub struct HeldType {
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
    /// Those of them that were sent before the subscription changed.
    outdated: Vec<String>,
}

impl HeldType {
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
    pub variant: XdsVariant,
    pub stream: StreamState,
    pub types: PerType<HeldType>,
    /// Every response of all its streams.
    pub log: Vec<Received>,
    /// What the last request turned out to be.
    pub outcome: Option<RequestOutcome>,
    /// What it rejected on this stream and the published snapshot still has.
    rejected: Vec<RejectedItem>,
    /// Responses that it rejected since the last publication or change of its subscription.
    rejected_responses: Vec<Received>,
    quirks: ClientQuirks,
    published: Option<Arc<Publication>>,
    /// The newest publication that its stream noticed.
    noticed: Option<Arc<Publication>>,
}

/// A resource that the client rejected.
struct RejectedItem {
    kind: ResourceType,
    item: Item,
    /// Whether it was the only change of its response.
    alone: bool,
}

/// Whether a publication has exactly this resource.
fn has(published: &Publication, kind: ResourceType, item: &Item) -> bool {
    published.snapshot.get(kind, &item.name).is_some_and(|resource| any_of(resource) == item.any)
}

fn sorted(got: &Received) -> Vec<(&str, &[u8])> {
    let mut items: Vec<_> = got.items.iter().map(|item| (&*item.name, &*item.any.value)).collect();
    items.sort_unstable();
    items
}

/// Runs a test in both variants of the protocol.
pub fn in_both_variants(test: impl Fn(Client)) {
    for variant in [XdsVariant::Sotw, XdsVariant::Delta] {
        test(Client::new(variant));
    }
}

impl Client {
    pub fn new(variant: XdsVariant) -> Self {
        Self::with(variant, ClientQuirks::default())
    }

    pub fn with(variant: XdsVariant, quirks: ClientQuirks) -> Self {
        Self {
            variant,
            stream: StreamState::new(variant, quirks),
            types: PerType::default(),
            log: Vec::new(),
            outcome: None,
            rejected: Vec::new(),
            rejected_responses: Vec::new(),
            quirks,
            published: None,
            noticed: None,
        }
    }

    pub fn is_sotw(&self) -> bool {
        self.variant == XdsVariant::Sotw
    }

    /// Publishes a topology.
    pub fn publish(&mut self, topology: &Topology) -> Vec<Received> {
        self.publish_snapshot(topology.snapshot())
    }

    pub fn publish_snapshot(&mut self, snapshot: Arc<Snapshot>) -> Vec<Received> {
        let before = self.published.as_ref();
        let published = Arc::new(Publication {
            seq: before.map_or(1, |before| before.seq + 1),
            changes: before.map_or_else(
                || snapshot.changes_since(&Snapshot::default()),
                |before| snapshot.changes_since(&before.snapshot),
            ),
            snapshot,
        });
        self.on_publication(published)
    }

    /// Receives a publication that the test made itself.
    pub fn on_publication(&mut self, published: Arc<Publication>) -> Vec<Received> {
        self.rejected.retain(|one| has(&published, one.kind, &one.item));
        self.rejected_responses.clear();
        self.published = Some(Arc::clone(&published));
        self.noticed = self.published.clone();
        self.stream.on_publication(published);
        self.receive_pushes()
    }

    /// Makes a publication what the client's next stream begins with.
    pub fn set_published(&mut self, published: Arc<Publication>) {
        self.published = Some(published);
    }

    /// The control plane publishes, and this client's stream is too busy to notice.
    pub fn publish_unnoticed(&mut self, topology: &Topology) {
        let seq = self.published.as_ref().map_or(1, |before| before.seq + 1);
        let snapshot = topology.snapshot();
        let changes = snapshot.changes_since(&Snapshot::default());
        self.published = Some(Arc::new(Publication { seq, changes, snapshot }));
    }

    /// Receives the responses that the server may send now, decoded.
    pub fn receive_pushes(&mut self) -> Vec<Received> {
        let responses = self.stream.pending_responses();
        responses.into_iter().map(|response| self.receive(response)).collect()
    }

    fn receive(&mut self, response: Response) -> Received {
        let got = decode(response);
        self.check_rejected(&got);
        self.log.push(got.clone());
        let unanswered = &mut self.types[got.kind].unanswered;
        unanswered.push(got.nonce.clone());
        let limit = if self.variant == XdsVariant::Sotw { 1 } else { IN_FLIGHT_LIMIT };
        assert!(unanswered.len() <= limit, "{} responses of {} wait", unanswered.len(), got.kind);
        got
    }

    /// A rejected version is not sent again, except in a response that must be complete, or once more alone if it was
    /// rejected together with others.
    fn check_rejected(&mut self, got: &Received) {
        if self.is_sotw() && got.kind.is_root() {
            let is_same = |one: &&Received| one.kind == got.kind && sorted(one) == sorted(got);
            let again = self.rejected_responses.iter().find(is_same);
            assert!(again.is_none(), "the client rejected {got}, and it is sent again");
            return;
        }
        let is_alone = got.items.len() == 1 && got.removed.is_empty();
        for item in &got.items {
            let is_same = |one: &RejectedItem| one.kind == got.kind && one.item.any == item.any;
            if let Some(at) = self.rejected.iter().position(is_same) {
                let rejected = self.rejected.swap_remove(at);
                assert!(!rejected.alone && is_alone, "{} was rejected and is sent again in {got}", item.name);
            }
        }
    }

    fn note_rejection(&mut self, got: &Received) {
        let Some(published) = &self.noticed else { return };
        let alone = got.items.len() == 1 && got.removed.is_empty();
        for item in got.items.iter().filter(|item| has(published, got.kind, item)) {
            self.rejected.retain(|one| one.kind != got.kind || one.item.name != item.name);
            self.rejected.push(RejectedItem { kind: got.kind, item: item.clone(), alone });
        }
        if !self.types[got.kind].outdated.contains(&got.nonce) {
            self.rejected_responses.push(got.clone());
        }
    }

    /// Subscribes to exactly these names; an empty list in a first request is the wildcard's older form.
    pub fn subscribe(&mut self, kind: ResourceType, names: &[&str]) -> Vec<Received> {
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let side = &mut self.types[kind];
        let had = std::mem::replace(&mut side.names, wanted.clone());
        side.begun = true;
        side.named |= !wanted.is_empty();
        side.outdated = side.unanswered.clone();
        self.rejected_responses.retain(|one| one.kind != kind);
        if !side.is_wildcard() {
            side.held.retain(|name, _| wanted.contains(name));
        }
        if self.is_sotw() {
            return self.request_sotw(kind, |_| {});
        }
        let add = wanted.difference(&had).cloned().collect();
        let drop = had.difference(&wanted).cloned().collect();
        self.request_delta(kind, |request| {
            request.resource_names_subscribe = add;
            request.resource_names_unsubscribe = drop;
        })
    }

    /// Sends a state-of-the-world request with the current nonce, version and names, and a change.
    pub fn request_sotw(
        &mut self,
        kind: ResourceType,
        change: impl FnOnce(&mut DiscoveryRequest),
    ) -> Vec<Received> {
        let side = &mut self.types[kind];
        side.begun = true;
        let mut request = DiscoveryRequest {
            type_url: kind.url().to_owned(),
            version_info: side.version.clone(),
            response_nonce: side.nonce.clone(),
            resource_names: side.names.iter().cloned().collect(),
            ..DiscoveryRequest::default()
        };
        change(&mut request);
        self.types[kind].answers(&request.response_nonce);
        let outcome = self.stream.on_sotw_request(kind, &request);
        self.note(outcome)
    }

    /// Sends a delta request that is empty except for what `change` sets.
    pub fn request_delta(
        &mut self,
        kind: ResourceType,
        change: impl FnOnce(&mut DeltaDiscoveryRequest),
    ) -> Vec<Received> {
        self.types[kind].begun = true;
        let mut request =
            DeltaDiscoveryRequest { type_url: kind.url().to_owned(), ..DeltaDiscoveryRequest::default() };
        change(&mut request);
        self.types[kind].answers(&request.response_nonce);
        let outcome = self.stream.on_delta_request(kind, &mut request);
        self.note(outcome)
    }

    fn note(&mut self, outcome: RequestOutcome) -> Vec<Received> {
        self.outcome = Some(outcome);
        self.receive_pushes()
    }

    /// Accepts a response.
    pub fn ack(&mut self, got: &Received) -> Vec<Received> {
        self.apply(got, |_| true);
        self.types[got.kind].version = got.version.clone();
        self.answer(got, None)
    }

    /// Refuses a response as a whole, with these words.
    pub fn nack(&mut self, got: &Received, message: &str) -> Vec<Received> {
        self.answer(got, Some(message))
    }

    /// Refuses the resources with these names, and keeps the others of the response, as gRPC does.
    pub fn nack_names(&mut self, got: &Received, bad: &[&str]) -> Vec<Received> {
        self.apply(got, |name| !bad.contains(&name));
        self.answer(got, Some(&format!("I do not like {}", bad.join(", "))))
    }

    fn answer(&mut self, got: &Received, complaint: Option<&str>) -> Vec<Received> {
        if complaint.is_some() {
            self.note_rejection(got);
        }
        let error_detail =
            complaint.map(|message| Status { code: 3, message: message.to_owned(), ..Status::default() });
        self.types[got.kind].nonce = got.nonce.clone();
        if self.is_sotw() {
            self.request_sotw(got.kind, |request| request.error_detail = error_detail)
        } else {
            let nonce = got.nonce.clone();
            self.request_delta(got.kind, |request| {
                request.response_nonce = nonce;
                request.error_detail = error_detail;
            })
        }
    }

    /// Takes a response over before answering it.
    pub fn apply_all(&mut self, got: &Received) {
        self.apply(got, |_| true);
    }

    /// Applies a response except the resources with these names.
    pub fn apply_except(&mut self, got: &Received, bad: &[&str]) {
        self.apply(got, |name| !bad.contains(&name));
    }

    fn apply(&mut self, got: &Received, good: impl Fn(&str) -> bool) {
        let side = &mut self.types[got.kind];
        let wildcard = side.is_wildcard();
        if self.variant == XdsVariant::Sotw && got.kind.is_root() {
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
    pub fn ack_all(&mut self, got: Vec<Received>) -> Vec<Received> {
        let mut all = Vec::new();
        let mut queue: std::collections::VecDeque<Received> = got.into();
        while let Some(next) = queue.pop_front() {
            queue.extend(self.ack(&next));
            all.push(next);
            assert!(all.len() < 200, "the server never comes to rest");
        }
        all
    }

    /// Asks like Envoy: all clusters and listeners, the endpoints and routes that they need, ACKs all.
    pub fn start_like_envoy(&mut self, topology: &Topology) {
        let mut first = self.publish(topology);
        for (kind, names) in [
            (ResourceType::Cluster, vec![]),
            (ResourceType::Endpoints, topology.clusters.keys().map(String::as_str).collect()),
            (ResourceType::Listener, vec![]),
            (ResourceType::Route, topology.listeners.values().map(|(_, route)| route.as_str()).collect()),
        ] {
            if matches!(kind, ResourceType::Endpoints | ResourceType::Route) && names.is_empty() {
                continue;
            }
            first.extend(self.subscribe(kind, &names));
            let got = std::mem::take(&mut first);
            self.ack_all(got);
        }
    }

    /// Loses the stream, keeps its resources, and opens another stream.
    pub fn reconnect(&mut self) {
        self.stream = StreamState::new(self.variant, self.quirks);
        self.rejected.clear();
        self.rejected_responses.clear();
        for kind in ResourceType::ALL {
            let side = &mut self.types[kind];
            side.nonce.clear();
            side.unanswered.clear();
            // A type of which it wants nothing any more is not asked for on the new stream.
            side.begun &= !side.named || !side.names.is_empty();
            side.named &= side.begun;
        }
        if let Some(published) = &self.published {
            self.noticed = self.published.clone();
            self.stream.on_publication(Arc::clone(published));
        }
    }

    /// Repeats its subscription on a new stream, with the versions that it has.
    pub fn resume(&mut self, kind: ResourceType) -> Vec<Received> {
        if self.is_sotw() {
            return self.request_sotw(kind, |_| {});
        }
        let side = &self.types[kind];
        let names = side.names.iter().cloned().collect();
        let held = side.held.iter().map(|(name, (version, _))| (name.clone(), version.clone())).collect();
        self.request_delta(kind, |request| {
            request.resource_names_subscribe = names;
            request.initial_resource_versions = held;
        })
    }

    /// The names that it holds of a type.
    pub fn holds(&self, kind: ResourceType) -> Vec<&str> {
        self.types[kind].held.keys().map(String::as_str).collect()
    }

    /// Whether it holds exactly this resource.
    pub fn has(&self, resource: &Resource) -> bool {
        let held = self.types[resource.kind()].held.get(&**resource.name());
        held.is_some_and(|(_, any)| *any == any_of(resource))
    }
}

/// Writes a response as the server does, and reads it as a client does.
pub fn decode(response: Response) -> Received {
    let (variant, kind) = (response.variant, response.kind);
    let frame = Frame::new(response);
    let length = frame.length();
    let bytes: Vec<u8> = frame.flatten().collect();
    assert_eq!(bytes.len(), length);
    let (prefix, body) = bytes.split_at(5);
    assert_eq!(prefix[0], 0, "not compressed");
    assert_eq!(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize, body.len());
    let got = match variant {
        XdsVariant::Sotw => read_sotw(kind, DiscoveryResponse::decode(body).unwrap()),
        XdsVariant::Delta => read_delta(kind, DeltaDiscoveryResponse::decode(body).unwrap()),
    };
    let names: Vec<_> = got.items.iter().map(|item| &item.name).chain(&got.removed).collect();
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "a name stands twice in {got}");
    got
}

pub fn read_sotw(kind: ResourceType, response: DiscoveryResponse) -> Received {
    assert_eq!(response.type_url, kind.url());
    let items = response.resources.into_iter().map(|any| {
        let name = Resource::from_any(&any).unwrap().name().to_string();
        Item { name, version: String::new(), any }
    });
    Received {
        kind,
        items: items.collect(),
        version: response.version_info,
        nonce: response.nonce,
        removed: Vec::new(),
    }
}

pub fn read_delta(kind: ResourceType, response: DeltaDiscoveryResponse) -> Received {
    assert_eq!(response.type_url, kind.url());
    let items = response.resources.into_iter().map(|one| {
        let any = one.resource.unwrap();
        assert_eq!(one.name, &**Resource::from_any(&any).unwrap().name());
        Item { name: one.name, version: one.version, any }
    });
    Received {
        kind,
        items: items.collect(),
        version: response.system_version_info,
        nonce: response.nonce,
        removed: response.removed_resources,
    }
}
