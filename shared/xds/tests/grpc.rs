//! The control plane and a foreign client without a proxy: the gRPC library for Python, which asks by names
//! (listener, then route, then clusters, then endpoints) where Envoy asks for everything.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use mesh_testkit::grpcio::{Client, LIMIT};
use mesh_xds::builders::{self, LocalityEndpoints};
use mesh_xds::cache::EVERYONE;
use mesh_xds::event_log::EventKind;
use mesh_xds::resource::XdsMessage;
use mesh_xds::{Cache, EventLog, Resource, ResourceType, Server, Snapshot};
use prost::Message as _;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::proto::echo::EchoReply;
use tokio::net::TcpListener;

/// A gRPC backend that answers every call with its name.
async fn backend(name: &'static str, life: &Lifecycle) -> SocketAddr {
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let reply = EchoReply { backend: name.to_owned(), ..EchoReply::default() }.encode_to_vec();
    let mut message = vec![0];
    message.extend_from_slice(&u32::try_from(reply.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&reply);
    let message = Bytes::from(message);
    let stop = life.token();
    life.spawn(async move {
        let answer = move |_| {
            let ok = [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))];
            let frames = [Frame::data(message.clone()), Frame::trailers(ok.into_iter().collect())];
            let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, hyper::Error>)));
            let answer = hyper::Response::builder().header("content-type", "application/grpc").body(body);
            std::future::ready(answer)
        };
        while let Some(Ok((connection, _))) = stop.run_until_cancelled(listener.accept()).await {
            let service = hyper::service::service_fn(answer.clone());
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(connection), service);
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(serving).await });
        }
    });
    address
}

fn resource<M: XdsMessage>(message: &M) -> Resource {
    Resource::new(message).unwrap()
}

/// `xds:///echo` goes to this cluster, which has these backends.
fn topology(cluster: &str, backends: &[SocketAddr]) -> Snapshot {
    let place =
        LocalityEndpoints { region: "here".into(), weight: 1, priority: 0, addresses: backends.to_vec() };
    Snapshot::new([
        resource(&builders::cluster(cluster)),
        resource(&builders::endpoints(cluster, &[place])),
        resource(&builders::api_listener("echo", "echo-route")),
        resource(&builders::route("echo-route", cluster)),
    ])
    .unwrap()
}

#[tokio::test]
async fn a_proxyless_client_follows_changes_without_a_failed_call() {
    let life = Lifecycle::default();
    let (blue, green) = (backend("blue", &life).await, backend("green", &life).await);
    let (cache, event_log) = (Arc::new(Cache::default()), EventLog::default());
    let server = Server::builder(Arc::clone(&cache), life.token()).event_log(event_log.clone()).build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    life.spawn(async move { server.serve(listener).await.unwrap() });

    cache.set(EVERYONE, topology("first", &[blue, green]));
    let mut client = Client::start("xds:///echo", address).await;
    assert_eq!(client.calls(1).await.values().sum::<usize>(), 1);
    client.until_only(&["blue", "green"]).await;
    // An endpoint goes; then the whole cluster is swapped for another one.
    cache.set(EVERYONE, topology("first", &[green]));
    client.until_only(&["green"]).await;
    cache.set(EVERYONE, topology("second", &[blue]));
    client.until_only(&["blue"]).await;

    let events = event_log.events();
    let refused = events.iter().find(|event| matches!(event.kind, EventKind::Nack { .. }));
    assert!(refused.is_none(), "{}", refused.unwrap());
    let asked: Vec<String> = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Request { .. }))
        .map(|event| event.type_name.clone())
        .collect();
    assert_eq!(&asked[..4], ["LDS", "RDS", "CDS", "EDS"]);

    // Endpoints without a locality: gRPC refuses them, says why, and keeps what it has.
    let mark = event_log.mark();
    let place = LocalityEndpoints { region: String::new(), weight: 1, priority: 0, addresses: vec![green] };
    let mut homeless = builders::endpoints("second", &[place]);
    homeless.endpoints[0].locality = None;
    let resources = topology("second", &[blue]);
    let others = resources.resources().filter(|one| one.kind() != ResourceType::Endpoints);
    let bad = others.cloned().chain([Arc::new(resource(&homeless))]);
    cache.set(EVERYONE, Snapshot::new(bad).unwrap());
    let nack = event_log.wait_for(mark, |event| matches!(event.kind, EventKind::Nack { .. }));
    let nack = tokio::time::timeout(LIMIT, nack).await.expect("a NACK");
    assert!(matches!(&nack.kind, EventKind::Nack { message, .. } if message.contains("locality")), "{nack}");
    assert_eq!(client.calls(20).await, BTreeMap::from([("blue".to_owned(), 20)]));

    client.end().await;
    life.shut_down(GRACE).await.unwrap();
}
