//! The event log: complete, bounded, readable, and without secrets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/test_server.rs"]
mod test_server;
#[path = "common/topology.rs"]
mod topology;

use std::sync::Arc;
use std::time::Duration;

use mesh_xds::Cache;
use mesh_xds::ResourceType::{Cluster, Endpoints, Secret};
use mesh_xds::XdsVariant;
use mesh_xds::cache::EVERYONE;
use mesh_xds::event_log::{Event, EventKind, EventLog, NameList};
use mesh_xds::publication::SyncStatus;
use serde_json::Value;
use shared::poll::wait_until;
use test_server::{TestServer, VARIANTS};
use topology::{SECRET_CONTENT, Topology, clusters};

const LIMIT: Duration = Duration::from_secs(20);
const OFTEN: Duration = Duration::from_millis(2);

/// A client asks, accepts, refuses and goes, in both variants.
async fn held() -> Vec<Arc<Event>> {
    let server = TestServer::start(Cache::default()).await;
    let topology = clusters(&["be"]).secret("key", 1);
    for variant in VARIANTS {
        server.cache.set(EVERYONE, topology.snapshot());
        let mut stream = server.open(variant, "envoy-1").await;
        for (kind, names) in [(Cluster, &[][..]), (Endpoints, &["be"]), (Secret, &["key"])] {
            stream.subscribe(kind, names);
            let got = stream.next().await;
            stream.ack(&got);
        }
        server.cache.set(EVERYONE, topology.clone().secret("key", 2).snapshot());
        let got = stream.next().await;
        let mark = server.event_log.mark();
        stream.nack(&got, "key: bad\tlength");
        let refused = server.event_log.wait_for(mark, |event| matches!(event.kind, EventKind::Nack { .. }));
        tokio::time::timeout(LIMIT, refused).await.unwrap();
        stream.close().await.unwrap();
        let closed = server.event_log.wait_for(mark, |event| event.kind == EventKind::Closed);
        tokio::time::timeout(LIMIT, closed).await.unwrap();
    }
    let events = server.event_log.events();
    server.stop().await;
    events
}

#[tokio::test]
async fn each_event_is_one_line_of_json() {
    let events = held().await;
    let mut seen = Vec::new();
    for event in &events {
        let line = serde_json::to_string(&**event).unwrap();
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert!(value["at"].as_f64().unwrap() >= 0.0 && value["time"].as_f64().unwrap() > 1.7e9);
        assert_eq!((value["node"].as_str(), value["stream"].as_u64().is_some()), (Some("envoy-1"), true));
        assert!(value["delta"].is_boolean() && value["type"].is_string());
        seen.push(value["event"].as_str().unwrap().to_owned());
        match value["event"].as_str().unwrap() {
            "response" => {
                assert_eq!(value["version"].as_str().unwrap().len(), 16);
                assert!(value["nonce"].as_u64().unwrap() > 0 && value["bytes"].as_u64().unwrap() > 0);
                assert!(value["names"]["names"].is_array());
            }
            "ack" => assert_eq!(value["version"].as_str().unwrap().len(), 16),
            "nack" => {
                assert_eq!(value["version"].as_str().unwrap().len(), 16);
                assert_eq!(value["message"], "key: bad length");
                assert_eq!(value["names"]["names"], serde_json::json!(["key"]));
            }
            _ => {}
        }
    }
    for event in ["opened", "request", "response", "ack", "nack", "closed"] {
        assert!(seen.iter().any(|one| one == event), "{event} in {seen:?}");
    }
    assert!(events.iter().any(|event| event.delta) && events.iter().any(|event| !event.delta));
}

#[tokio::test]
async fn the_log_never_has_the_content_of_a_secret() {
    for event in held().await {
        for text in [event.to_string(), format!("{event:?}"), serde_json::to_string(&*event).unwrap()] {
            assert!(!text.contains(SECRET_CONTENT), "{text}");
        }
    }
}

#[tokio::test]
async fn the_timeline_lists_requests_and_responses_in_order() {
    let events = held().await;
    let lines: Vec<String> =
        events.iter().filter(|event| event.delta).map(|event| event.to_string()).collect();
    // Time and stream differ from run to run; what is said does not.
    let told: Vec<&str> = lines.iter().map(|line| line.split_once(" #").unwrap().1).collect();
    let after_stream = |line: &str| line.split_once(' ').unwrap().1.to_owned();
    let said: Vec<String> = told.iter().map(|line| after_stream(line)).collect();
    let starts = [
        "->     opens",
        "-> CDS asks for all",
        "<- CDS 1: [be] version",
        "-> CDS ACK 1",
        "-> EDS asks for [be]",
        "<- EDS 2: [be] version",
        "-> EDS ACK 2",
        "-> SDS asks for [key]",
        "<- SDS 3: [key] version",
        "-> SDS ACK 3",
        "<- SDS 4: [key] version",
        "-> SDS NACK 4 [key]: key: bad length",
        "->     closes",
    ];
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(said.len(), starts.len(), "{said:#?}");
    for (said, start) in said.iter().zip(starts) {
        assert!(squeezed(said).starts_with(&squeezed(start)), "{said} should begin {start}");
    }
    assert!(lines.iter().all(|line| line.contains(" envoy-1 ") && !line.contains('\n')));
}

#[tokio::test]
async fn the_log_keeps_the_newest_events_and_counts_all() {
    let server = TestServer::start(Cache::default()).await;
    server.cache.set(EVERYONE, Topology::default().snapshot());
    let mut stream = server.open(XdsVariant::Sotw, "n").await;
    stream.subscribe(Cluster, &[]);
    stream.next().await;
    let all = server.event_log.events();
    assert_eq!(all.len() as u64, server.event_log.mark());
    assert_eq!(server.event_log.since(1).len(), all.len() - 1);
    assert!(server.event_log.since(server.event_log.mark()).is_empty());
    let (next, mark) = server.event_log.next_since(0).await;
    assert_eq!((next.len(), mark), (all.len(), server.event_log.mark()));
    server.stop().await;
    for capacity in [0, 2] {
        let kept = keeping(capacity).await;
        assert_eq!(kept.events().len(), capacity);
        assert!(kept.mark() >= 3);
    }
}

#[tokio::test]
async fn connected_clients_are_known_after_their_events_are_dropped() {
    let event_log = EventLog::with_capacity(0);
    let server = TestServer::start_with(event_log.clone(), Cache::default()).await;
    server.cache.set(EVERYONE, Topology::default().snapshot());
    for variant in VARIANTS {
        let mut stream = server.open(variant, "n").await;
        stream.subscribe(Cluster, &[]);
        let got = stream.next().await;
        stream.ack(&got);
        let settled = || async {
            let clients = event_log.clients();
            let stands = clients.first().map(|client| client.status);
            if matches!(stands, Some(SyncStatus::Synced(_))) {
                Ok(clients)
            } else {
                Err(format!("{clients:?}"))
            }
        };
        let clients = wait_until("the client to settle", OFTEN, LIMIT, settled).await.unwrap();
        let told = (&*clients[0].node, clients[0].delta, &*clients[0].types["CDS"]);
        assert_eq!(told, ("n", variant == XdsVariant::Delta, &*format!("accepted {}", got.version)));
        stream.close().await.unwrap();
        let gone = || std::future::ready(if event_log.clients().is_empty() { Ok(()) } else { Err("there") });
        wait_until("the client to be gone", OFTEN, LIMIT, gone).await.unwrap();
    }
    server.stop().await;
}

/// An event log that recorded at least three events and keeps `capacity` of them.
async fn keeping(capacity: usize) -> EventLog {
    let event_log = EventLog::with_capacity(capacity);
    let server = TestServer::start_with(event_log.clone(), Cache::default()).await;
    server.cache.set(EVERYONE, Topology::default().snapshot());
    let mut stream = server.open(XdsVariant::Sotw, "n").await;
    stream.subscribe(Cluster, &[]);
    stream.next().await;
    server.stop().await;
    event_log
}

#[test]
fn long_name_lists_are_cut_and_the_rest_is_counted() {
    let names = NameList::new(&(0..100).rev().map(|n| format!("n{n:03}")).collect::<Vec<_>>());
    assert_eq!((names.names.len(), names.names.capacity(), names.more), (16, 16, 84));
    let first: Vec<String> = (0..16).map(|n| format!("n{n:03}")).collect();
    assert!(names.names.iter().zip(&first).all(|(name, first)| **name == **first), "{names}");
    assert!(names.to_string().ends_with("and 84 more]"), "{names}");
    assert_eq!(NameList::new(&["b".to_owned(), "a".to_owned()]).to_string(), "[a, b]");
}
