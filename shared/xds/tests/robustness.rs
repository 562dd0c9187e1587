//! Many clients, slow clients, and clients that reconnect (rules 50 to 54).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/test_server.rs"]
mod test_server;
#[path = "common/topology.rs"]
mod topology;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, in_both_variants, summaries};
use mesh_xds::Cache;
use mesh_xds::ResourceType::{Cluster, Endpoints};
use mesh_xds::XdsVariant;
use mesh_xds::cache::EVERYONE;
use mesh_xds::publication::SyncStatus;
use mesh_xds::stream_state::IN_FLIGHT_LIMIT;
use test_server::{GrpcStream, TestServer, VARIANTS};
use topology::{Topology, any_of, clusters, web};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn c50_a_synced_client_gets_no_heartbeats() {
    in_both_variants(|mut client| {
        client.start_like_envoy(&web());
        assert_eq!(client.stream.status(), SyncStatus::Synced(1));
        // The server sends no heartbeats, however often it is polled, because its resources do not expire.
        for _ in 0..1000 {
            assert!(client.receive_pushes().is_empty());
        }
        assert!(client.publish(&web()).is_empty(), "nor when the same is published again");
    });
}

#[test]
fn c51_an_on_demand_name_is_answered_now_and_when_it_starts_to_exist() {
    let mut client = Client::new(XdsVariant::Delta);
    client.publish(&clusters(&["a"]));
    let got = client.subscribe(Cluster, &[]);
    client.ack_all(got);
    // Envoy asks for a cluster that a request wants, beside its wildcard.
    let missing = client.request_delta(Cluster, |request| {
        request.resource_names_subscribe = vec!["wanted".to_owned()];
    });
    assert_eq!(summaries(&missing), ["CDS -wanted"]);
    client.ack(&missing[0]);
    let come = client.publish(&clusters(&["a", "wanted"]));
    assert_eq!(summaries(&come), ["CDS wanted"]);
    client.ack(&come[0]);
    // The wildcard covers it already, but a request by name gets a response anyway.
    let there = client.request_delta(Cluster, |request| {
        request.resource_names_subscribe = vec!["wanted".to_owned()];
    });
    assert_eq!(summaries(&there), ["CDS wanted"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c52_publishing_and_watching_at_once_loses_nothing() {
    const LAST: u32 = 150;
    let server = TestServer::start(Cache::default()).await;
    let cache = Arc::clone(&server.cache);
    let topology = |edition| clusters(&["be"]).endpoints("be", edition).snapshot();
    let publisher = tokio::spawn(async move {
        for edition in 1..=LAST {
            cache.set(EVERYONE, topology(edition));
            tokio::task::yield_now().await;
        }
    });
    let newest = any_of(topology(LAST).get(Endpoints, "be").unwrap());
    let mut watchers = Vec::new();
    for at in 0..8 {
        let mut stream = server.open(VARIANTS[at % 2], "n").await;
        let newest = newest.clone();
        watchers.push(tokio::spawn(async move {
            stream.subscribe(Endpoints, &["be"]);
            loop {
                let got = stream.next().await;
                stream.ack(&got);
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
    server.stop().await;
}

#[tokio::test]
async fn c53_a_slow_reader_gets_the_newest_state_and_delays_no_other_client() {
    const LAST: u32 = 100;
    let server = TestServer::start(Cache::default()).await;
    let topology = |edition| clusters(&["be"]).endpoints("be", edition).snapshot();
    server.cache.set(EVERYONE, topology(1));
    for variant in VARIANTS {
        let (mut slow, mut quick) = (server.open(variant, "slow").await, server.open(variant, "quick").await);
        slow.subscribe(Endpoints, &["be"]);
        quick.subscribe(Endpoints, &["be"]);
        let unread = slow.next().await;
        let mut got = quick.next().await;
        for edition in 2..=LAST {
            quick.ack(&got);
            server.cache.set(EVERYONE, topology(edition));
            got = quick.next().await;
            assert!(got.items[0].any == any_of(&topology::endpoints("be", edition)));
        }
        quick.ack(&got);
        // The slow one had one response to answer; what came since is one response more.
        let mark = server.event_log.mark();
        slow.ack(&unread);
        let merged = slow.next().await;
        assert!(merged.items[0].any == any_of(&topology::endpoints("be", LAST)));
        slow.ack(&merged);
        slow.close().await.unwrap();
        let sent = server.event_log.since(mark);
        let sent = sent.iter().filter(|event| {
            &*event.node == "slow" && matches!(event.kind, mesh_xds::event_log::EventKind::Response { .. })
        });
        assert_eq!(sent.count(), 1);
        server.cache.set(EVERYONE, topology(1));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_many_rapid_publications_every_client_has_the_newest_in_either_variant() {
    const EDITIONS: u32 = 3000;
    let server = TestServer::start(Cache::default()).await;
    let topology = |edition| clusters(&["be"]).endpoints("be", edition).snapshot();
    for variant in VARIANTS {
        server.cache.set(EVERYONE, topology(1));
        let mut staying = Vec::new();
        for _ in 0..10 {
            let mut stream = server.open(variant, "stays").await;
            stream.subscribe(Endpoints, &["be"]);
            staying.push(tokio::spawn(async move {
                let (newest, mut told) = (any_of(&topology::endpoints("be", EDITIONS)), 0);
                loop {
                    let got = stream.next().await;
                    stream.ack(&got);
                    told += 1;
                    if got.items[0].any == newest {
                        return told;
                    }
                }
            }));
        }
        let cache = Arc::clone(&server.cache);
        // As fast as possible, on a separate thread: far more than a thousand per second.
        let storm = std::thread::spawn(move || {
            for edition in 2..=EDITIONS {
                cache.set(EVERYONE, clusters(&["be"]).endpoints("be", edition).snapshot());
            }
        });
        for _ in 0..20 {
            let mut visitor = server.open(variant, "comes and goes").await;
            visitor.subscribe(Endpoints, &["be"]);
            visitor.next().await;
        }
        for client in staying {
            let told = tokio::time::timeout(LIMIT, client).await.expect("the newest in time").unwrap();
            assert!(told <= EDITIONS);
        }
        storm.join().unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_hundred_thousand_names_are_answered_in_either_variant() {
    let server = TestServer::start(Cache::default()).await;
    server.cache.set(EVERYONE, clusters(&["be"]).snapshot());
    let names: Vec<String> = (0..100_000).map(|index| format!("nobody-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["be"]).collect();
    for variant in VARIANTS {
        let mut greedy = server.open(variant, "greedy").await;
        greedy.subscribe(Endpoints, &names);
        let got = greedy.next().await;
        let told = if variant == XdsVariant::Delta { 100_000 } else { 0 };
        assert_eq!((got.items.len(), got.removed.len()), (1, told));
        let mut other = server.open(variant, "other").await;
        other.subscribe(Endpoints, &["be"]);
        assert_eq!(other.next().await.items.len(), 1);
    }
    server.stop().await;
}

#[test]
fn c53_a_client_that_never_answers_has_few_responses_in_flight() {
    let mut client = Client::new(XdsVariant::Delta);
    client.publish(&clusters(&["a"]));
    let mut got = Vec::new();
    for _ in 0..10 * IN_FLIGHT_LIMIT {
        got.extend(client.request_delta(Endpoints, |request| {
            request.resource_names_subscribe = vec!["a".to_owned()];
        }));
    }
    assert_eq!(got.len(), IN_FLIGHT_LIMIT);
    // Once it answers, the rest of its questions get one answer.
    let last = got.last().unwrap().clone();
    assert_eq!(summaries(&client.ack(&last)), ["EDS a"]);
}

#[tokio::test]
async fn c54_a_reconnecting_client_gets_only_what_changed() {
    for variant in VARIANTS {
        let server = TestServer::start(Cache::default()).await;
        let address = server.address;
        server.cache.set(EVERYONE, clusters(&["a", "b"]).snapshot());
        let channel = server.channel().await;
        let mut stream = GrpcStream::open(channel.clone(), variant, "n").await;
        let mut had = Vec::new();
        for (kind, names) in [(Cluster, &[][..]), (Endpoints, &["a", "b"])] {
            stream.subscribe(kind, names);
            let got = stream.next().await;
            stream.ack(&got);
            had.push(got);
        }
        server.stop().await;
        assert_eq!(stream.receive().await.unwrap(), None, "the server says goodbye");

        // A new process, without state. It has the same content except one assignment.
        let server = TestServer::start_at(address, Cache::default()).await;
        server.cache.set(EVERYONE, clusters(&["a"]).cluster("b", 1).endpoints("b", 2).snapshot());
        let mut stream = GrpcStream::open(channel, variant, "n").await;
        stream.resume(Cluster, &[], &had[0]);
        stream.resume(Endpoints, &["a", "b"], &had[1]);
        let first = stream.next().await;
        assert_eq!(first.to_string(), if variant == XdsVariant::Sotw { "EDS a b" } else { "EDS b" });
        stream.ack(&first);
        server.cache.set(EVERYONE, clusters(&["a", "c"]).cluster("b", 1).endpoints("b", 2).snapshot());
        let next = stream.next().await;
        assert_eq!(next.to_string(), if variant == XdsVariant::Sotw { "CDS a b c" } else { "CDS c" });
        server.stop().await;
    }
}

#[test]
fn malformed_requests_do_not_panic() {
    in_both_variants(|mut client| {
        client.publish(&Topology::default());
        for nonce in ["", "0", "18446744073709551616", "-1", "x", "1"] {
            for name in ["", "*", "\u{0}", "xdstp://a/b"] {
                let (nonce, names) = (nonce.to_owned(), vec![name.to_owned()]);
                let error = Some(Default::default()).filter(|_| name.is_empty());
                if client.is_sotw() {
                    client.request_sotw(Cluster, |request| {
                        (request.response_nonce, request.resource_names) = (nonce, names);
                        (request.version_info, request.error_detail) = ("?".to_owned(), error);
                    });
                } else {
                    client.request_delta(Cluster, |request| {
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
