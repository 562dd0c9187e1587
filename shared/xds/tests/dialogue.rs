//! What was said, for people and for programs: complete, bounded, readable, and without secrets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/plane.rs"]
mod plane;
#[path = "common/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use mesh_xds::Cache;
use mesh_xds::ResourceType::{Cluster, Endpoints, Secret};
use mesh_xds::cache::{EVERYONE, Standing};
use mesh_xds::dialogue::{Dialogue, Event, Names, Said};
use mesh_xds::frame::Dialect;
use plane::{DIALECTS, Plane};
use serde_json::Value;
use shared::poll::wait_until;
use world::{SECRET_CONTENT, World, clusters};

const LIMIT: Duration = Duration::from_secs(20);
const OFTEN: Duration = Duration::from_millis(2);

/// A client asks, accepts, refuses and goes, in both dialects.
async fn held() -> Vec<Arc<Event>> {
    let plane = Plane::start(Cache::default()).await;
    let world = clusters(&["be"]).secret("key", 1);
    for dialect in DIALECTS {
        plane.cache.pardon(EVERYONE);
        plane.cache.set(EVERYONE, world.snapshot());
        let mut wire = plane.open(dialect, "envoy-1").await;
        for (kind, names) in [(Cluster, &[][..]), (Endpoints, &["be"]), (Secret, &["key"])] {
            wire.ask(kind, names);
            let got = wire.next().await;
            wire.ack(&got);
        }
        plane.cache.set(EVERYONE, world.clone().secret("key", 2).snapshot());
        let got = wire.next().await;
        let mark = plane.dialogue.mark();
        wire.nack(&got, "key: bad\tlength");
        let refused = plane.dialogue.wait_for(mark, |event| matches!(event.said, Said::Nack { .. }));
        tokio::time::timeout(LIMIT, refused).await.unwrap();
        wire.close().await.unwrap();
        let closed = plane.dialogue.wait_for(mark, |event| event.said == Said::Closed);
        tokio::time::timeout(LIMIT, closed).await.unwrap();
    }
    let events = plane.dialogue.events();
    plane.stop().await;
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
        seen.push(value["said"].as_str().unwrap().to_owned());
        match value["said"].as_str().unwrap() {
            "sent" => {
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
    for said in ["opened", "asked", "sent", "ack", "nack", "closed"] {
        assert!(seen.iter().any(|one| one == said), "{said} in {seen:?}");
    }
    assert!(events.iter().any(|event| event.delta) && events.iter().any(|event| !event.delta));
}

#[tokio::test]
async fn no_content_of_a_secret_is_in_it() {
    for event in held().await {
        for text in [event.to_string(), format!("{event:?}"), serde_json::to_string(&*event).unwrap()] {
            assert!(!text.contains(SECRET_CONTENT), "{text}");
        }
    }
}

#[tokio::test]
async fn the_timeline_reads_like_a_conversation() {
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
async fn it_keeps_the_newest_and_counts_all() {
    let plane = Plane::start(Cache::default()).await;
    plane.cache.set(EVERYONE, World::default().snapshot());
    let mut wire = plane.open(Dialect::Sotw, "n").await;
    wire.ask(Cluster, &[]);
    wire.next().await;
    let all = plane.dialogue.events();
    assert_eq!(all.len() as u64, plane.dialogue.mark());
    assert_eq!(plane.dialogue.since(1).len(), all.len() - 1);
    assert!(plane.dialogue.since(plane.dialogue.mark()).is_empty());
    let (next, mark) = plane.dialogue.next_since(0).await;
    assert_eq!((next.len(), mark), (all.len(), plane.dialogue.mark()));
    plane.stop().await;
    for capacity in [0, 2] {
        let kept = keeping(capacity).await;
        assert_eq!(kept.events().len(), capacity);
        assert!(kept.mark() >= 3);
    }
}

#[tokio::test]
async fn who_is_connected_is_known_though_the_events_are_forgotten() {
    let dialogue = Dialogue::keeping(0);
    let plane = Plane::start_with(dialogue.clone(), Cache::default()).await;
    plane.cache.set(EVERYONE, World::default().snapshot());
    for dialect in DIALECTS {
        let mut wire = plane.open(dialect, "n").await;
        wire.ask(Cluster, &[]);
        let got = wire.next().await;
        wire.ack(&got);
        let settled = || async {
            let clients = dialogue.clients();
            let stands = clients.first().map(|client| client.standing);
            if matches!(stands, Some(Standing::Settled(_))) {
                Ok(clients)
            } else {
                Err(format!("{clients:?}"))
            }
        };
        let clients = wait_until("the client to settle", OFTEN, LIMIT, settled).await.unwrap();
        let told = (&*clients[0].node, clients[0].delta, &*clients[0].types["CDS"]);
        assert_eq!(told, ("n", dialect == Dialect::Delta, &*format!("accepted {}", got.version)));
        wire.close().await.unwrap();
        let gone = || std::future::ready(if dialogue.clients().is_empty() { Ok(()) } else { Err("there") });
        wait_until("the client to be gone", OFTEN, LIMIT, gone).await.unwrap();
    }
    plane.stop().await;
}

/// A dialogue of at least three events that keeps `capacity` of them.
async fn keeping(capacity: usize) -> Dialogue {
    let dialogue = Dialogue::keeping(capacity);
    let plane = Plane::start_with(dialogue.clone(), Cache::default()).await;
    plane.cache.set(EVERYONE, World::default().snapshot());
    let mut wire = plane.open(Dialect::Sotw, "n").await;
    wire.ask(Cluster, &[]);
    wire.next().await;
    plane.stop().await;
    dialogue
}

#[test]
fn long_lists_are_cut_and_the_rest_is_counted() {
    let names = Names::new((0..100).map(|n| format!("n{n:03}").into()).collect());
    assert_eq!((names.names.len(), names.more), (16, 84));
    assert!(names.to_string().ends_with("and 84 more]"), "{names}");
    assert_eq!(Names::new(vec!["b".into(), "a".into()]).to_string(), "[a, b]");
}
