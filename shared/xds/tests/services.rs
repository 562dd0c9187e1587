//! The standard services on the same port: health and reflection, for probes and for grpcurl.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use futures::StreamExt;
use mesh_xds::cache::EVERYONE;
use mesh_xds::{Cache, Server, Snapshot};
use shared::health;
use shared::lifecycle::{GRACE, Lifecycle};
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
    health::probe(at).await.unwrap();
    life.shut_down(GRACE).await.unwrap();
    assert!(health::probe(at).await.is_err());
}

#[tokio::test]
async fn each_service_reports_its_health_and_watchers_see_the_shutdown() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let life = Lifecycle::default();
    let at = server(&life).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{at}")).unwrap().connect().await;
    let mut client = HealthClient::new(channel.unwrap());
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "envoy.service.cluster.v3.ClusterDiscoveryService"] {
        let answer = client.check(ask(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let stranger = client.check(ask("no.such.Service")).await.unwrap_err();
    assert_eq!(stranger.code(), tonic::Code::NotFound);
    let mut watched = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stopping = tokio::spawn(async move { life.shut_down(GRACE).await });
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    drop((watched, client));
    stopping.await.unwrap().unwrap();
}

#[tokio::test]
async fn mutual_tls_admits_only_clients_with_a_certificate_of_the_configured_ca() {
    use mesh_pki::tls::{self, Credentials};
    use mesh_pki::{Intermediate, Names, Root, Roots, Usage, Validity};
    use std::time::Duration;
    use tonic::transport::{Channel, Endpoint};

    let day = || Validity::from_now(Duration::from_secs(86_400)).unwrap();
    let authority = |name: &str| -> Intermediate {
        let root = Root::generate(name, day()).unwrap();
        root.sign_intermediate(&format!("{name} intermediate"), day()).unwrap()
    };
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let hour = Validity::from_now(Duration::from_secs(3600)).unwrap();
    let credentials = |by: &Intermediate| {
        let names = Names::default().dns("control-plane.test").unwrap();
        Credentials::try_from(&by.issue(&names, Usage::Both, hour).unwrap()).unwrap()
    };
    let roots = Roots::from_pem(ours.root_pem()).unwrap();

    let life = Lifecycle::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let cache = Arc::new(Cache::default());
    cache.set(EVERYONE, Snapshot::default());
    let server =
        Server::builder(cache, life.token()).tls(tls::grpc_server(&credentials(&ours), Some(&roots))).build();
    life.spawn(async move { server.serve(listener).await.unwrap() });

    let asks = async |own: Option<Credentials>| -> Result<(), String> {
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        let secure = tls::grpc_client(&roots, own.as_ref()).server_name("control-plane.test");
        let channel: Channel =
            secure.secure(endpoint).unwrap().connect().await.map_err(|error| format!("{error:?}"))?;
        // xDS itself: the first response of a stream.
        let mut discovery = AggregatedDiscoveryServiceClient::new(channel);
        let type_url = mesh_xds::ResourceType::Cluster.url().to_owned();
        let request = DiscoveryRequest { type_url, ..DiscoveryRequest::default() };
        let asks = futures::stream::iter([request]).chain(futures::stream::pending());
        let answers = discovery.stream_aggregated_resources(asks).await;
        let mut answers = answers.map_err(|status| status.to_string())?.into_inner();
        answers.message().await.map(drop).map_err(|status| status.to_string())
    };
    asks(Some(credentials(&ours))).await.unwrap();
    assert!(asks(None).await.is_err(), "without a certificate");
    assert!(asks(Some(credentials(&theirs))).await.is_err(), "with a certificate of another CA");
    // Plaintext gets no further either.
    assert!(health::probe(address).await.is_err());
    life.shut_down(GRACE).await.unwrap();
}
