//! Streams on the wire: who the client is, which service it uses, how it ends (rules 1 to 9, 12, and a part of 27).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/plane.rs"]
mod plane;
#[path = "common/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use client::{both, told};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use mesh_xds::ResourceType::{self, Cluster, Endpoints, Listener, Route, Secret};
use mesh_xds::cache::EVERYONE;
use mesh_xds::dialogue::Said;
use mesh_xds::frame::Dialect;
use mesh_xds::stream::Heard;
use mesh_xds::{Cache, Resource};
use plane::{DIALECTS, Plane, Wire};
use shared::poll::wait_until;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use world::{clusters, web};

const LIMIT: Duration = Duration::from_secs(20);

fn by_node() -> Cache {
    Cache::grouped(|node| node.id.clone())
}

#[tokio::test]
async fn c01_the_node_of_the_first_message_counts_for_the_stream() {
    let plane = Plane::start(by_node()).await;
    plane.cache.set("left", clusters(&["a"]).snapshot());
    plane.cache.set("", clusters(&["nobody's"]).snapshot());
    for dialect in DIALECTS {
        let mut wire = plane.open(dialect, "left").await;
        wire.ask(Cluster, &[]);
        assert_eq!(wire.next().await.to_string(), "CDS a");
        wire.ask(Endpoints, &["a"]);
        assert_eq!(wire.next().await.to_string(), "EDS a");
    }
    let nodes = plane.dialogue.events().iter().all(|event| &*event.node == "left");
    assert!(nodes, "{:?}", plane.dialogue.events());
    plane.stop().await;
}

#[tokio::test]
async fn c02_an_empty_type_is_an_error_on_the_aggregated_service_only() {
    let plane = Plane::start(Cache::default()).await;
    plane.cache.set(EVERYONE, clusters(&["a"]).snapshot());
    for dialect in DIALECTS {
        let mut wire = plane.open(dialect, "n").await;
        wire.ask_url("", &[]);
        assert_eq!(wire.heard().await.unwrap_err().code(), Code::InvalidArgument);
        let told = per_type(plane.channel().await, Cluster, dialect, "").await.unwrap();
        assert_eq!(told, Cluster.url());
        // A type of another service is no type of this one.
        let refusal = per_type(plane.channel().await, Cluster, dialect, Route.url()).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
    }
    plane.stop().await;
}

#[test]
fn c03_nonce_version_and_subscription_belong_to_one_type() {
    both(|mut client| {
        client.publish(&clusters(&["a", "b"]));
        let cluster = client.ask(Cluster, &["a"]).remove(0);
        let endpoints = client.ask(Endpoints, &["b"]).remove(0);
        assert_eq!((cluster.to_string(), endpoints.to_string()), ("CDS a".into(), "EDS b".into()));
        assert_ne!(cluster.version, endpoints.version);
        // The nonce of another type answers nothing.
        let nonce = cluster.nonce.clone();
        if client.is_sotw() {
            client.ask_sotw(Endpoints, |request| request.response_nonce = nonce);
        } else {
            client.ask_delta(Endpoints, |request| request.response_nonce = nonce);
        }
        assert!(matches!(client.heard, Some(Heard::Stale)));
        let changed = clusters(&["a"]).cluster("b", 1).endpoints("b", 2);
        assert!(client.publish(&changed).is_empty(), "the endpoints are still in flight");
        client.ack(&cluster);
        assert!(matches!(client.heard, Some(Heard::Ack { .. })));
        assert_eq!(told(&client.ack(&endpoints)), ["EDS b"]);
    });
}

#[test]
fn c04_a_nonce_dies_with_its_stream() {
    both(|mut client| {
        client.publish(&clusters(&["a"]));
        let old = client.ask(Endpoints, &["a"]).remove(0).nonce;
        client.reconnect();
        // Even if a client quotes it, the first request is answered …
        let got = if client.is_sotw() {
            client.ask_sotw(Endpoints, |request| request.response_nonce = old.clone())
        } else {
            client.ask_delta(Endpoints, |request| {
                request.resource_names_subscribe = vec!["a".to_owned()];
                request.response_nonce = old.clone();
            })
        };
        assert_eq!(told(&got), ["EDS a"]);
        // … and answers nothing, though the new stream's first nonce looks the same.
        assert_eq!(got[0].nonce, old);
        assert!(client.publish(&clusters(&["a"]).endpoints("a", 2)).is_empty());
        assert_eq!(told(&client.ack(&got[0])), ["EDS a"]);
    });
}

#[tokio::test]
async fn c05_an_unknown_type_does_not_break_the_stream() {
    let plane = Plane::start(Cache::default()).await;
    plane.cache.set(EVERYONE, clusters(&["a"]).snapshot());
    for dialect in DIALECTS {
        let mark = plane.dialogue.mark();
        let mut wire = plane.open(dialect, "n").await;
        wire.ask_url("type.googleapis.com/envoy.service.runtime.v3.Runtime", &["x"]);
        wire.ask(Cluster, &[]);
        assert_eq!(wire.next().await.to_string(), "CDS a");
        let said = plane.dialogue.since(mark);
        assert!(said.iter().any(|event| event.said == Said::Unserved && event.kind.ends_with("Runtime")));
    }
    plane.stop().await;
}

#[tokio::test]
async fn c06_closing_or_cancelling_frees_every_watch() {
    let plane = Plane::start(by_node()).await;
    for node in ["a", "b"] {
        plane.cache.set(node, web().snapshot());
    }
    let idle = Arc::strong_count(&plane.cache);
    for dialect in DIALECTS {
        let mut wires = Vec::new();
        for node in ["a", "a", "b", "stranger"] {
            let mut wire = plane.open(dialect, node).await;
            for kind in ResourceType::ALL {
                wire.ask(kind, &["be", "web", "paths"]);
            }
            if node != "stranger" {
                wire.next().await;
            }
            wires.push(wire);
        }
        // One says goodbye, the others just vanish.
        wires.remove(0).close().await.unwrap();
        drop(wires);
        let freed = || {
            let left = Arc::strong_count(&plane.cache) - idle;
            std::future::ready(if left == 0 { Ok(()) } else { Err(format!("{left} still watch")) })
        };
        wait_until("every watch to be freed", Duration::from_millis(5), LIMIT, freed).await.unwrap();
    }
    let count = |wanted: fn(&Said) -> bool| {
        plane.dialogue.events().iter().filter(|event| wanted(&event.said)).count()
    };
    assert_eq!(count(|said| matches!(said, Said::Opened { .. })), count(|said| *said == Said::Closed));
    // Nothing that is published now is for anyone, and that hurts nobody.
    plane.cache.set("a", clusters(&["x"]).snapshot());
    plane.stop().await;
}

#[tokio::test]
async fn c07_a_clean_close_after_a_response_is_no_error() {
    let plane = Plane::start(Cache::default()).await;
    plane.cache.set(EVERYONE, clusters(&["a"]).snapshot());
    for dialect in DIALECTS {
        let mut wire = plane.open(dialect, "n").await;
        wire.ask(Cluster, &[]);
        wire.next().await;
        assert_eq!(wire.close().await.unwrap(), None);
    }
    // Nor if it is the server that ends it.
    let mut wire = plane.open(Dialect::Delta, "n").await;
    wire.ask(Cluster, &[]);
    wire.next().await;
    plane.stop().await;
    assert_eq!(wire.heard().await.unwrap(), None);
}

#[tokio::test]
async fn c08_many_nodes_and_several_streams_of_one_node_live_side_by_side() {
    let plane = Plane::start(by_node()).await;
    for dialect in DIALECTS {
        let mut wires = Vec::new();
        for node in ["one", "two", "three"] {
            plane.cache.set(node, clusters(&[node]).snapshot());
            for _ in 0..2 {
                let mut wire = plane.open(dialect, node).await;
                wire.ask(Cluster, &[]);
                let got = wire.next().await;
                assert_eq!(got.to_string(), format!("CDS {node}"));
                wire.ack(&got);
                wires.push((node, wire));
            }
        }
        // One stream of a node ends; its other one and the other nodes do not notice.
        wires.remove(0).1.close().await.unwrap();
        plane.cache.set("two", clusters(&["two", "more"]).snapshot());
        plane.cache.set("one", clusters(&["one", "again"]).snapshot());
        for (node, wire) in &mut wires {
            let news = match *node {
                "one" => "again",
                "two" => "more",
                _ => continue,
            };
            assert!(wire.next().await.items.iter().any(|item| item.name == news));
        }
    }
    plane.stop().await;
}

#[tokio::test]
async fn c09_the_aggregated_and_the_per_type_services_serve_the_same() {
    let plane = Plane::start(Cache::default()).await;
    plane.cache.set(EVERYONE, web().secret("s", 1).snapshot());
    for dialect in DIALECTS {
        for (kind, name) in
            [(Cluster, "be"), (Endpoints, "be"), (Secret, "s"), (Listener, "web"), (Route, "paths")]
        {
            let mut wire = plane.open(dialect, "n").await;
            wire.ask(kind, &[name]);
            assert_eq!(wire.next().await.to_string(), format!("{kind} {name}"));
            let told = per_type(plane.channel().await, kind, dialect, kind.url()).await.unwrap();
            assert_eq!(told, format!("{} {name}", kind.url()));
        }
    }
    plane.stop().await;
}

#[tokio::test]
async fn c12_each_nack_is_recorded_with_all_that_one_needs_to_know() {
    let plane = Plane::start(Cache::default()).await;
    plane.cache.set(EVERYONE, clusters(&["bad", "good"]).snapshot());
    for dialect in DIALECTS {
        plane.cache.pardon(EVERYONE);
        let mark = plane.dialogue.mark();
        let mut wire = plane.open(dialect, "picky").await;
        wire.ask(Cluster, &[]);
        let got = wire.next().await;
        wire.nack(&got, "cluster bad is\nrotten");
        let is_nack = |event: &mesh_xds::dialogue::Event| matches!(event.said, Said::Nack { .. });
        let event = tokio::time::timeout(LIMIT, plane.dialogue.wait_for(mark, is_nack)).await.unwrap();
        assert_eq!((&*event.node, event.kind.as_str()), ("picky", "CDS"));
        let Said::Nack { version, nonce, names, message } = &event.said else {
            unreachable!("looked for it")
        };
        assert_eq!((nonce, message.as_str()), (&got.nonce, "cluster bad is rotten"));
        assert_eq!(names.to_string(), "[bad]");
        assert_eq!(*version, got.version, "of what it refused");
    }
    plane.stop().await;
}

#[tokio::test]
async fn c27_a_grpc_client_that_names_nothing_is_sent_nothing() {
    let plane = Plane::start(Cache::default()).await;
    plane.cache.set(EVERYONE, clusters(&["be"]).snapshot());
    for dialect in DIALECTS {
        for (agent, expected) in [("envoy", Cluster), ("gRPC C-core linux Python", Endpoints)] {
            let node = Node { user_agent_name: agent.to_owned(), ..Node::default() };
            let mut wire = Wire::open_as(plane.channel().await, dialect, node).await;
            wire.ask(Cluster, &[]);
            wire.ask(Endpoints, &["be"]);
            // Requests are heard in order, so the first answer tells whether the empty list got one.
            assert_eq!(wire.next().await.kind, expected, "{agent}");
        }
    }
    plane.stop().await;
}

/// What a per-type service first says: the type, and the names (none if its type was to be filled in).
async fn per_type(
    channel: Channel,
    kind: ResourceType,
    dialect: Dialect,
    type_url: &str,
) -> Result<String, Status> {
    let (service, method) = match kind {
        Cluster => ("cluster.v3.ClusterDiscoveryService", "Clusters"),
        Endpoints => ("endpoint.v3.EndpointDiscoveryService", "Endpoints"),
        Secret => ("secret.v3.SecretDiscoveryService", "Secrets"),
        Listener => ("listener.v3.ListenerDiscoveryService", "Listeners"),
        Route => ("route.v3.RouteDiscoveryService", "Routes"),
    };
    let prefix = if dialect == Dialect::Sotw { "Stream" } else { "Delta" };
    let path = format!("/envoy.service.{service}/{prefix}{method}").parse().unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let (type_url, names) = (type_url.to_owned(), ["be", "s", "web", "paths"].map(str::to_owned).to_vec());
    // The request stream stays open, as a client's does.
    let (answered, mut names_told) = match dialect {
        Dialect::Sotw => {
            let request = DiscoveryRequest { type_url, resource_names: names, ..DiscoveryRequest::default() };
            let requests = futures::StreamExt::chain(
                futures::stream::once(std::future::ready(request)),
                futures::stream::pending(),
            );
            let codec = ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
            let streaming = grpc.streaming(tonic::Request::new(requests), path, codec);
            let mut responses = tokio::time::timeout(LIMIT, streaming).await.unwrap()?.into_inner();
            let got = tokio::time::timeout(LIMIT, responses.message()).await.unwrap()?.unwrap();
            let names = got.resources.iter().map(|any| Resource::from_any(any).unwrap().name().to_string());
            (got.type_url, names.collect::<Vec<_>>())
        }
        Dialect::Delta => {
            let request = DeltaDiscoveryRequest {
                type_url,
                resource_names_subscribe: names,
                ..DeltaDiscoveryRequest::default()
            };
            let requests = futures::StreamExt::chain(
                futures::stream::once(std::future::ready(request)),
                futures::stream::pending(),
            );
            let codec = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
            let streaming = grpc.streaming(tonic::Request::new(requests), path, codec);
            let mut responses = tokio::time::timeout(LIMIT, streaming).await.unwrap()?.into_inner();
            let got = tokio::time::timeout(LIMIT, responses.message()).await.unwrap()?.unwrap();
            (got.type_url, got.resources.into_iter().map(|one| one.name).collect())
        }
    };
    names_told.insert(0, answered);
    Ok(names_told.join(" "))
}
