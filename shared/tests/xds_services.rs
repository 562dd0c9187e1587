//! What stands beside xDS on the same port: health and reflection, for probes and for grpcurl.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures::StreamExt;
use shared::health;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::xds::{Cache, Server};
use tokio::net::TcpListener;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

async fn server(life: &Lifecycle) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder(Arc::new(Cache::default()), life.token()).build();
    life.spawn(async move { server.serve(listener).await.unwrap() });
    address
}

async fn reflect(at: SocketAddr, question: MessageRequest) -> MessageResponse {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{at}")).unwrap().connect().await;
    let mut client = ServerReflectionClient::new(channel.unwrap());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let asked = client.server_reflection_info(futures::stream::iter([request])).await;
    asked.unwrap().into_inner().next().await.unwrap().unwrap().message_response.unwrap()
}

#[tokio::test]
async fn every_discovery_service_is_listed_and_described() {
    let life = Lifecycle::default();
    let at = server(&life).await;
    let listed = match reflect(at, MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(listed) => listed.service,
        other => panic!("{other:?}"),
    };
    let listed: BTreeSet<String> = listed.into_iter().map(|service| service.name).collect();
    let kinds = [
        "discovery.v3.AggregatedDiscoveryService",
        "cluster.v3.ClusterDiscoveryService",
        "endpoint.v3.EndpointDiscoveryService",
        "secret.v3.SecretDiscoveryService",
        "listener.v3.ListenerDiscoveryService",
        "route.v3.RouteDiscoveryService",
    ];
    for kind in kinds {
        let service = format!("envoy.service.{kind}");
        assert!(listed.contains(&service), "{service} is not among {listed:?}");
        let file = reflect(at, MessageRequest::FileContainingSymbol(service.clone())).await;
        assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)), "{service}: {file:?}");
    }
    life.shut_down(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_serving_control_plane_is_healthy_and_a_stopped_one_is_not() {
    let life = Lifecycle::default();
    let at = server(&life).await;
    health::ask(at).await.unwrap();
    life.shut_down(GRACE).await.unwrap();
    assert!(health::ask(at).await.is_err());
}
