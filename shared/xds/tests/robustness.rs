//! What comes and goes, many at once, slow or returning (rules 50 to 54).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/plane.rs"]
mod plane;
#[path = "common/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, both, told};
use mesh_xds::Cache;
use mesh_xds::ResourceType::{Cluster, Endpoints};
use mesh_xds::cache::{EVERYONE, Standing};
use mesh_xds::frame::Dialect;
use mesh_xds::track::IN_FLIGHT_LIMIT;
use plane::{DIALECTS, Plane, Wire};
use world::{World, any_of, clusters, web};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn c50_a_client_that_has_everything_is_sent_nothing_to_keep_it() {
    both(|mut client| {
        client.start_like_envoy(&web());
        assert_eq!(client.stream.standing(), Standing::Settled(1));
        // However often it is looked at: there is no heartbeat, because nothing that was sent expires.
        for _ in 0..1000 {
            assert!(client.due().is_empty());
        }
        assert!(client.publish(&web()).is_empty(), "nor when the same is published again");
    });
}

#[test]
fn c51_a_name_asked_on_demand_is_answered_now_and_when_it_comes_to_exist() {
    let mut client = Client::new(Dialect::Delta);
    client.publish(&clusters(&["a"]));
    let got = client.ask(Cluster, &[]);
    client.settle(got);
    // Envoy asks for a cluster that a request wants, beside its wildcard.
    let missing = client.ask_delta(Cluster, |request| {
        request.resource_names_subscribe = vec!["wanted".to_owned()];
    });
    assert_eq!(told(&missing), ["CDS -wanted"]);
    client.ack(&missing[0]);
    let come = client.publish(&clusters(&["a", "wanted"]));
    assert_eq!(told(&come), ["CDS wanted"]);
    client.ack(&come[0]);
    // The wildcard brought it; whoever asks for it by name is answered all the same.
    let there = client.ask_delta(Cluster, |request| {
        request.resource_names_subscribe = vec!["wanted".to_owned()];
    });
    assert_eq!(told(&there), ["CDS wanted"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c52_publishing_and_watching_at_once_loses_nothing() {
    const LAST: u32 = 150;
    let plane = Plane::start(Cache::default()).await;
    let cache = Arc::clone(&plane.cache);
    let world = |edition| clusters(&["be"]).endpoints("be", edition).snapshot();
    let publisher = tokio::spawn(async move {
        for edition in 1..=LAST {
            cache.set(EVERYONE, world(edition));
            tokio::task::yield_now().await;
        }
    });
    let newest = any_of(world(LAST).get(Endpoints, "be").unwrap());
    let mut watchers = Vec::new();
    for at in 0..8 {
        let mut wire = plane.open(DIALECTS[at % 2], "n").await;
        let newest = newest.clone();
        watchers.push(tokio::spawn(async move {
            wire.ask(Endpoints, &["be"]);
            loop {
                let got = wire.next().await;
                wire.ack(&got);
                if got.items[0].any == newest {
                    return;
                }
            }
        }));
    }
    publisher.await.unwrap();
    for watcher in watchers {
        tokio::time::timeout(LIMIT, watcher).await.unwrap().unwrap();
    }
    plane.stop().await;
}

#[tokio::test]
async fn c53_a_slow_reader_gets_the_newest_and_holds_nobody_back() {
    const LAST: u32 = 100;
    let plane = Plane::start(Cache::default()).await;
    let world = |edition| clusters(&["be"]).endpoints("be", edition).snapshot();
    plane.cache.set(EVERYONE, world(1));
    for dialect in DIALECTS {
        let (mut slow, mut quick) = (plane.open(dialect, "slow").await, plane.open(dialect, "quick").await);
        slow.ask(Endpoints, &["be"]);
        quick.ask(Endpoints, &["be"]);
        let unread = slow.next().await;
        let mut got = quick.next().await;
        for edition in 2..=LAST {
            quick.ack(&got);
            plane.cache.set(EVERYONE, world(edition));
            got = quick.next().await;
            assert!(got.items[0].any == any_of(&world::endpoints("be", edition)));
        }
        quick.ack(&got);
        // The slow one had one response to answer; what came since is one response more.
        let mark = plane.dialogue.mark();
        slow.ack(&unread);
        let merged = slow.next().await;
        assert!(merged.items[0].any == any_of(&world::endpoints("be", LAST)));
        slow.ack(&merged);
        slow.close().await.unwrap();
        let sent = plane.dialogue.since(mark);
        let sent = sent.iter().filter(|event| {
            &*event.node == "slow" && matches!(event.said, mesh_xds::dialogue::Said::Sent { .. })
        });
        assert_eq!(sent.count(), 1);
        plane.cache.set(EVERYONE, world(1));
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_storm_of_publications_everybody_has_the_newest_in_either_dialect() {
    const EDITIONS: u32 = 3000;
    let plane = Plane::start(Cache::default()).await;
    let world = |edition| clusters(&["be"]).endpoints("be", edition).snapshot();
    for dialect in DIALECTS {
        plane.cache.set(EVERYONE, world(1));
        let mut staying = Vec::new();
        for _ in 0..10 {
            let mut wire = plane.open(dialect, "stays").await;
            wire.ask(Endpoints, &["be"]);
            staying.push(tokio::spawn(async move {
                let (newest, mut told) = (any_of(&world::endpoints("be", EDITIONS)), 0);
                loop {
                    let got = wire.next().await;
                    wire.ack(&got);
                    told += 1;
                    if got.items[0].any == newest {
                        return told;
                    }
                }
            }));
        }
        let cache = Arc::clone(&plane.cache);
        // As fast as it can, on a thread of its own: far more than a thousand a second.
        let storm = std::thread::spawn(move || {
            for edition in 2..=EDITIONS {
                cache.set(EVERYONE, clusters(&["be"]).endpoints("be", edition).snapshot());
            }
        });
        for _ in 0..20 {
            let mut visitor = plane.open(dialect, "comes and goes").await;
            visitor.ask(Endpoints, &["be"]);
            visitor.next().await;
        }
        for client in staying {
            let told = tokio::time::timeout(LIMIT, client).await.expect("the newest in time").unwrap();
            assert!(told <= EDITIONS);
        }
        storm.join().unwrap();
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_hundred_thousand_names_are_answered_in_either_dialect() {
    let plane = Plane::start(Cache::default()).await;
    plane.cache.set(EVERYONE, clusters(&["be"]).snapshot());
    let names: Vec<String> = (0..100_000).map(|index| format!("nobody-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["be"]).collect();
    for dialect in DIALECTS {
        let mut greedy = plane.open(dialect, "greedy").await;
        greedy.ask(Endpoints, &names);
        let got = greedy.next().await;
        let told = if dialect == Dialect::Delta { 100_000 } else { 0 };
        assert_eq!((got.items.len(), got.removed.len()), (1, told));
        let mut other = plane.open(dialect, "other").await;
        other.ask(Endpoints, &["be"]);
        assert_eq!(other.next().await.items.len(), 1);
    }
    plane.stop().await;
}

#[test]
fn c53_a_client_that_asks_and_never_answers_has_few_responses_in_flight() {
    let mut client = Client::new(Dialect::Delta);
    client.publish(&clusters(&["a"]));
    let mut got = Vec::new();
    for _ in 0..10 * IN_FLIGHT_LIMIT {
        got.extend(client.ask_delta(Endpoints, |request| {
            request.resource_names_subscribe = vec!["a".to_owned()];
        }));
    }
    assert_eq!(got.len(), IN_FLIGHT_LIMIT);
    // Once it answers, the rest of its questions get one answer.
    let last = got.last().unwrap().clone();
    assert_eq!(told(&client.ack(&last)), ["EDS a"]);
}

#[tokio::test]
async fn c54_a_client_finds_the_server_again_and_gets_only_what_changed() {
    for dialect in DIALECTS {
        let plane = Plane::start(Cache::default()).await;
        let address = plane.address;
        plane.cache.set(EVERYONE, clusters(&["a", "b"]).snapshot());
        let channel = plane.channel().await;
        let mut wire = Wire::open(channel.clone(), dialect, "n").await;
        let mut had = Vec::new();
        for (kind, names) in [(Cluster, &[][..]), (Endpoints, &["a", "b"])] {
            wire.ask(kind, names);
            let got = wire.next().await;
            wire.ack(&got);
            had.push(got);
        }
        plane.stop().await;
        assert_eq!(wire.heard().await.unwrap(), None, "the server says goodbye");

        // A new process: it has the same content, but for one assignment, and a memory of nothing.
        let plane = Plane::start_at(address, Cache::default()).await;
        plane.cache.set(EVERYONE, clusters(&["a"]).cluster("b", 1).endpoints("b", 2).snapshot());
        let mut wire = Wire::open(channel, dialect, "n").await;
        wire.resume(Cluster, &[], &had[0]);
        wire.resume(Endpoints, &["a", "b"], &had[1]);
        let first = wire.next().await;
        assert_eq!(first.to_string(), if dialect == Dialect::Sotw { "EDS a b" } else { "EDS b" });
        wire.ack(&first);
        plane.cache.set(EVERYONE, clusters(&["a", "c"]).cluster("b", 1).endpoints("b", 2).snapshot());
        let next = wire.next().await;
        assert_eq!(next.to_string(), if dialect == Dialect::Sotw { "CDS a b c" } else { "CDS c" });
        plane.stop().await;
    }
}

#[test]
fn what_nobody_accepted_is_told_by_the_quarantine_to_no_one_else() {
    both(|mut client| {
        client.quarantines = true;
        client.publish(&web());
        let got = client.ask(Cluster, &[]);
        client.nack(&got[0], "be: no");
        // Another client of the group, which has nothing yet.
        client.reconnect();
        client.sides[Cluster] = client::Side::default();
        let got = client.ask(Cluster, &[]);
        assert_eq!(told(&got), ["CDS"], "an answer, but without what was refused");
        client.settle(got);
        let got = client.publish(&web().cluster("be", 2));
        assert_eq!(told(&got), ["CDS be"]);
    });
}

#[test]
fn nonsense_is_no_reason_to_panic() {
    both(|mut client| {
        client.publish(&World::default());
        for nonce in ["", "0", "18446744073709551616", "-1", "x", "1"] {
            for name in ["", "*", "\u{0}", "xdstp://a/b"] {
                let (nonce, names) = (nonce.to_owned(), vec![name.to_owned()]);
                let error = Some(Default::default()).filter(|_| name.is_empty());
                if client.is_sotw() {
                    client.ask_sotw(Cluster, |request| {
                        (request.response_nonce, request.resource_names) = (nonce, names);
                        (request.version_info, request.error_detail) = ("?".to_owned(), error);
                    });
                } else {
                    client.ask_delta(Cluster, |request| {
                        (request.response_nonce, request.error_detail) = (nonce, error);
                        request.resource_names_subscribe = names.clone();
                        request.resource_names_unsubscribe = names;
                        request.initial_resource_versions = [(String::new(), "?".to_owned())].into();
                    });
                }
            }
        }
    });
}
