//! Streams over gRPC: node, service, errors and the end of a stream (rules 1 to 9, 12, and a part of 27).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/test_server.rs"]
mod test_server;
#[path = "common/topology.rs"]
mod topology;

use std::sync::Arc;
use std::time::Duration;

use client::{in_both_variants, summaries};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use mesh_xds::ResourceType::{self, Cluster, Endpoints, Listener, Route, Secret};
use mesh_xds::XdsVariant;
use mesh_xds::cache::EVERYONE;
use mesh_xds::event_log::EventKind;
use mesh_xds::response::RequestOutcome;
use mesh_xds::{Cache, Resource};
use shared::poll::wait_until;
use test_server::{GrpcStream, TestServer, VARIANTS};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use topology::{clusters, web};

const LIMIT: Duration = Duration::from_secs(20);

fn by_node() -> Cache {
    Cache::grouped(|node| node.id.clone())
}

#[tokio::test]
async fn c01_the_node_of_the_first_message_counts_for_the_stream() {
    let server = TestServer::start(by_node()).await;
    server.cache.set("left", clusters(&["a"]).snapshot());
    server.cache.set("", clusters(&["nobody's"]).snapshot());
    for variant in VARIANTS {
        let mut stream = server.open(variant, "left").await;
        stream.subscribe(Cluster, &[]);
        assert_eq!(stream.next().await.to_string(), "CDS a");
        stream.subscribe(Endpoints, &["a"]);
        assert_eq!(stream.next().await.to_string(), "EDS a");
    }
    let nodes = server.event_log.events().iter().all(|event| &*event.node == "left");
    assert!(nodes, "{:?}", server.event_log.events());
    server.stop().await;
}

#[tokio::test]
async fn c02_an_empty_type_is_an_error_on_the_aggregated_service_only() {
    let server = TestServer::start(Cache::default()).await;
    server.cache.set(EVERYONE, clusters(&["a"]).snapshot());
    for variant in VARIANTS {
        let mut stream = server.open(variant, "n").await;
        stream.subscribe_url("", &[]);
        assert_eq!(stream.receive().await.unwrap_err().code(), Code::InvalidArgument);
        let told = per_type(server.channel().await, Cluster, variant, "").await.unwrap();
        assert_eq!(told, Cluster.url());
        // The type of another service is an error on this one.
        let refusal = per_type(server.channel().await, Cluster, variant, Route.url()).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
    }
    server.stop().await;
}

#[test]
fn c03_nonce_version_and_subscription_belong_to_one_type() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["a", "b"]));
        let cluster = client.subscribe(Cluster, &["a"]).remove(0);
        let endpoints = client.subscribe(Endpoints, &["b"]).remove(0);
        assert_eq!((cluster.to_string(), endpoints.to_string()), ("CDS a".into(), "EDS b".into()));
        assert_ne!(cluster.version, endpoints.version);
        // The nonce of another type answers nothing.
        let nonce = cluster.nonce.clone();
        if client.is_sotw() {
            client.request_sotw(Endpoints, |request| request.response_nonce = nonce);
        } else {
            client.request_delta(Endpoints, |request| request.response_nonce = nonce);
        }
        assert!(matches!(client.outcome, Some(RequestOutcome::Stale)));
        let changed = clusters(&["a"]).cluster("b", 1).endpoints("b", 2);
        assert!(client.publish(&changed).is_empty(), "the endpoints are still in flight");
        client.ack(&cluster);
        assert!(matches!(client.outcome, Some(RequestOutcome::Ack { .. })));
        assert_eq!(summaries(&client.ack(&endpoints)), ["EDS b"]);
    });
}

#[test]
fn c04_a_nonce_is_valid_for_its_stream_only() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["a"]));
        let old = client.subscribe(Endpoints, &["a"]).remove(0).nonce;
        client.reconnect();
        // Even if a client quotes it, the first request is answered …
        let got = if client.is_sotw() {
            client.request_sotw(Endpoints, |request| request.response_nonce = old.clone())
        } else {
            client.request_delta(Endpoints, |request| {
                request.resource_names_subscribe = vec!["a".to_owned()];
                request.response_nonce = old.clone();
            })
        };
        assert_eq!(summaries(&got), ["EDS a"]);
        // … and answers nothing, though the new stream's first nonce looks the same.
        assert_eq!(got[0].nonce, old);
        assert!(client.publish(&clusters(&["a"]).endpoints("a", 2)).is_empty());
        assert_eq!(summaries(&client.ack(&got[0])), ["EDS a"]);
    });
}

#[tokio::test]
async fn c05_an_unknown_type_does_not_break_the_stream() {
    let server = TestServer::start(Cache::default()).await;
    server.cache.set(EVERYONE, clusters(&["a"]).snapshot());
    for variant in VARIANTS {
        let mark = server.event_log.mark();
        let mut stream = server.open(variant, "n").await;
        stream.subscribe_url("type.googleapis.com/envoy.service.runtime.v3.Runtime", &["x"]);
        stream.subscribe(Cluster, &[]);
        assert_eq!(stream.next().await.to_string(), "CDS a");
        let said = server.event_log.since(mark);
        assert!(
            said.iter()
                .any(|event| event.kind == EventKind::UnknownType && event.type_name.ends_with("Runtime"))
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn c06_closing_or_cancelling_frees_every_watch() {
    let server = TestServer::start(by_node()).await;
    for node in ["a", "b"] {
        server.cache.set(node, web().snapshot());
    }
    let idle = Arc::strong_count(&server.cache);
    for variant in VARIANTS {
        let mut streams = Vec::new();
        for node in ["a", "a", "b", "stranger"] {
            let mut stream = server.open(variant, node).await;
            for kind in ResourceType::ALL {
                stream.subscribe(kind, &["be", "web", "paths"]);
            }
            if node != "stranger" {
                stream.next().await;
            }
            streams.push(stream);
        }
        // One says goodbye, the others just vanish.
        streams.remove(0).close().await.unwrap();
        drop(streams);
        let freed = || {
            let left = Arc::strong_count(&server.cache) - idle;
            std::future::ready(if left == 0 { Ok(()) } else { Err(format!("{left} still watch")) })
        };
        wait_until("every watch to be freed", Duration::from_millis(5), LIMIT, freed).await.unwrap();
    }
    let count = |wanted: fn(&EventKind) -> bool| {
        server.event_log.events().iter().filter(|event| wanted(&event.kind)).count()
    };
    assert_eq!(
        count(|said| matches!(said, EventKind::Opened { .. })),
        count(|said| *said == EventKind::Closed)
    );
    // A publication without any client is harmless.
    server.cache.set("a", clusters(&["x"]).snapshot());
    server.stop().await;
}

#[tokio::test]
async fn c07_a_clean_close_after_a_response_is_no_error() {
    let server = TestServer::start(Cache::default()).await;
    server.cache.set(EVERYONE, clusters(&["a"]).snapshot());
    for variant in VARIANTS {
        let mut stream = server.open(variant, "n").await;
        stream.subscribe(Cluster, &[]);
        stream.next().await;
        assert_eq!(stream.close().await.unwrap(), None);
    }
    // Nor if it is the server that ends it.
    let mut stream = server.open(XdsVariant::Delta, "n").await;
    stream.subscribe(Cluster, &[]);
    stream.next().await;
    server.stop().await;
    assert_eq!(stream.receive().await.unwrap(), None);
}

#[tokio::test]
async fn c08_many_nodes_and_several_streams_of_one_node_are_independent() {
    let server = TestServer::start(by_node()).await;
    for variant in VARIANTS {
        let mut streams = Vec::new();
        for node in ["one", "two", "three"] {
            server.cache.set(node, clusters(&[node]).snapshot());
            for _ in 0..2 {
                let mut stream = server.open(variant, node).await;
                stream.subscribe(Cluster, &[]);
                let got = stream.next().await;
                assert_eq!(got.to_string(), format!("CDS {node}"));
                stream.ack(&got);
                streams.push((node, stream));
            }
        }
        // One stream of a node ends; its other one and the other nodes do not notice.
        streams.remove(0).1.close().await.unwrap();
        server.cache.set("two", clusters(&["two", "more"]).snapshot());
        server.cache.set("one", clusters(&["one", "again"]).snapshot());
        for (node, stream) in &mut streams {
            let news = match *node {
                "one" => "again",
                "two" => "more",
                _ => continue,
            };
            assert!(stream.next().await.items.iter().any(|item| item.name == news));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn c09_the_aggregated_and_the_per_type_services_serve_the_same() {
    let server = TestServer::start(Cache::default()).await;
    server.cache.set(EVERYONE, web().secret("s", 1).snapshot());
    for variant in VARIANTS {
        for (kind, name) in
            [(Cluster, "be"), (Endpoints, "be"), (Secret, "s"), (Listener, "web"), (Route, "paths")]
        {
            let mut stream = server.open(variant, "n").await;
            stream.subscribe(kind, &[name]);
            assert_eq!(stream.next().await.to_string(), format!("{kind} {name}"));
            let told = per_type(server.channel().await, kind, variant, kind.url()).await.unwrap();
            assert_eq!(told, format!("{} {name}", kind.url()));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn c12_each_nack_is_recorded_with_node_type_version_nonce_and_message() {
    let server = TestServer::start(Cache::default()).await;
    server.cache.set(EVERYONE, clusters(&["bad", "good"]).snapshot());
    for variant in VARIANTS {
        let mark = server.event_log.mark();
        let mut stream = server.open(variant, "picky").await;
        stream.subscribe(Cluster, &[]);
        let got = stream.next().await;
        stream.nack(&got, "cluster bad is\nrotten");
        let is_nack = |event: &mesh_xds::event_log::Event| matches!(event.kind, EventKind::Nack { .. });
        let event = tokio::time::timeout(LIMIT, server.event_log.wait_for(mark, is_nack)).await.unwrap();
        assert_eq!((&*event.node, event.type_name.as_str()), ("picky", "CDS"));
        let EventKind::Nack { version, nonce, names, message } = &event.kind else {
            unreachable!("looked for it")
        };
        assert_eq!((nonce, message.as_str()), (&got.nonce, "cluster bad is rotten"));
        assert_eq!(
            names.to_string(),
            "[bad, good]",
            "the resources of the response; nothing is read from the message"
        );
        assert_eq!(*version, got.version, "of what it refused");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_unanswered_secret_holds_listeners_back_for_a_limited_time() {
    for variant in VARIANTS {
        let server = TestServer::start(Cache::default()).await;
        server.cache.set(EVERYONE, web().secret("s", 1).snapshot());
        let mut stream = server.open(variant, "n").await;
        for kind in [Secret, Listener] {
            stream.subscribe(kind, &[]);
            let got = stream.next().await;
            stream.ack(&got);
        }
        server.cache.set(EVERYONE, web().secret("s", 2).listener("web", 2, "paths").snapshot());
        assert_eq!(stream.next().await.to_string(), "SDS s");
        assert_eq!(stream.next().await.to_string(), "LDS web");
        server.stop().await;
    }
}

#[tokio::test]
async fn c27_a_grpc_client_that_lists_no_names_gets_no_resources() {
    let server = TestServer::start(Cache::default()).await;
    server.cache.set(EVERYONE, clusters(&["be"]).snapshot());
    for variant in VARIANTS {
        for (agent, expected) in [("envoy", Cluster), ("gRPC C-core linux Python", Endpoints)] {
            let node = Node { user_agent_name: agent.to_owned(), ..Node::default() };
            let mut stream = GrpcStream::open_as(server.channel().await, variant, node).await;
            stream.subscribe(Cluster, &[]);
            stream.subscribe(Endpoints, &["be"]);
            // The server processes requests in order, so the first response shows whether the empty list got one.
            assert_eq!(stream.next().await.kind, expected, "{agent}");
        }
    }
    server.stop().await;
}

/// What a per-type service first says: the type, and the names (none if its type was to be filled in).
async fn per_type(
    channel: Channel,
    kind: ResourceType,
    variant: XdsVariant,
    type_url: &str,
) -> Result<String, Status> {
    let (service, method) = match kind {
        Cluster => ("cluster.v3.ClusterDiscoveryService", "Clusters"),
        Endpoints => ("endpoint.v3.EndpointDiscoveryService", "Endpoints"),
        Secret => ("secret.v3.SecretDiscoveryService", "Secrets"),
        Listener => ("listener.v3.ListenerDiscoveryService", "Listeners"),
        Route => ("route.v3.RouteDiscoveryService", "Routes"),
        other => unreachable!("{other} has no service of its own"),
    };
    let prefix = if variant == XdsVariant::Sotw { "Stream" } else { "Delta" };
    let path = format!("/envoy.service.{service}/{prefix}{method}").parse().unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let (type_url, names) = (type_url.to_owned(), ["be", "s", "web", "paths"].map(str::to_owned).to_vec());
    // The request stream stays open, as a client's does.
    let (answered, mut names_told) = match variant {
        XdsVariant::Sotw => {
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
        XdsVariant::Delta => {
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
