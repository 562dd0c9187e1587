//! The xDS server over real sockets: malformed input, many clients and slow readers must not harm it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use mesh_xds::builders::{self, LocalityEndpoints};
use mesh_xds::cache::EVERYONE;
use mesh_xds::{Cache, Resource, ResourceType, Server, Snapshot};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::poll::wait_until;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// Far beyond what anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A server with `clusters` clusters of one endpoint each, whose address tells the edition.
struct Under {
    cache: Arc<Cache>,
    server: Server,
    address: SocketAddr,
    life: Lifecycle,
    _turn: Turn,
}

/// Tests that weigh this process run alone in it; the others side by side.
enum Turn {
    Shared(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

static TURNS: RwLock<()> = RwLock::const_new(());

fn topology(clusters: u16, edition: u32) -> Snapshot {
    let resources = (0..clusters).flat_map(|index| {
        let name = format!("cluster-{index}");
        let at = SocketAddr::new(Ipv4Addr::from_bits((10 << 24) + edition).into(), 8080);
        let place = LocalityEndpoints { region: "here".into(), weight: 1, priority: 0, addresses: vec![at] };
        [
            Resource::new(&builders::cluster(&name)).unwrap(),
            Resource::new(&builders::endpoints(&name, &[place])).unwrap(),
        ]
    });
    Snapshot::new(resources).unwrap()
}

impl Under {
    async fn test(clusters: u16) -> Self {
        Self::start(clusters, Turn::Shared(TURNS.read().await)).await
    }

    async fn weighed(clusters: u16) -> Self {
        Self::start(clusters, Turn::Alone(TURNS.write().await)).await
    }

    async fn start(clusters: u16, turn: Turn) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, life, cache) =
            (listener.local_addr().unwrap(), Lifecycle::default(), Arc::new(Cache::default()));
        cache.set(EVERYONE, topology(clusters, 0));
        let server = Server::builder(Arc::clone(&cache), life.token()).build();
        life.spawn(server.clone().serve(listener));
        Self { cache, server, address, life, _turn: turn }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> Client {
        Client::open(self.channel().await).await
    }

    /// Whether a new client still gets what it asks for.
    async fn serves(&self) {
        let mut client = self.client().await;
        let response = client.subscribe(ResourceType::Cluster, &[]).await.unwrap();
        assert!(!response.resources.is_empty());
    }

    async fn no_stream_is_left(&self) {
        let none = || match self.server.streams_open() {
            0 => std::future::ready(Ok(())),
            open => std::future::ready(Err(format!("{open} open"))),
        };
        wait_until("all streams to end", Duration::from_millis(10), LIMIT, none).await.unwrap();
    }
}

/// A client of the aggregated service, in the state-of-the-world variant.
struct Client {
    requests: UnboundedSender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Client {
    async fn open(channel: Channel) -> Self {
        let (requests, receiver) = unbounded_channel();
        let mut service = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(1 << 28);
        let sent = UnboundedReceiverStream::new(receiver);
        let responses = service.stream_aggregated_resources(sent).await.unwrap().into_inner();
        Self { requests, responses }
    }

    fn send(&self, url: &str, names: &[String]) {
        let node = Some(Node { id: "test".to_owned(), ..Node::default() });
        let (type_url, resource_names) = (url.to_owned(), names.to_vec());
        // If the stream ended, the next read says why.
        _ = self.requests.send(DiscoveryRequest { node, type_url, resource_names, ..Default::default() });
    }

    fn ack(&self, response: &DiscoveryResponse, names: &[String]) {
        _ = self.requests.send(DiscoveryRequest {
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            type_url: response.type_url.clone(),
            resource_names: names.to_vec(),
            ..Default::default()
        });
    }

    async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        let next = tokio::time::timeout(LIMIT, self.responses.message()).await.expect("an answer in time");
        next.map(|response| response.expect("the stream is still open"))
    }

    async fn subscribe(&mut self, kind: ResourceType, names: &[String]) -> Result<DiscoveryResponse, Status> {
        self.send(kind.url(), names);
        self.next().await
    }
}

/// Resident memory of this process, the server's included, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("cluster-{index}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_http2_ends_only_its_own_connection() {
    let under = Under::test(3).await;
    let mut staying = under.client().await;
    let first = staying.subscribe(ResourceType::Cluster, &[]).await.unwrap();
    staying.ack(&first, &[]);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let path = b"\x84envoy.service.discovery.v3";
    let half_message = [PREFACE, &settings, &[0, 0, 5, 0, 0, 0, 0, 0, 1], &[0, 0, 0, 1, 0]].concat();
    let inputs: [&[u8]; 8] = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        &PREFACE[..10],
        PREFACE,
        &[PREFACE, &settings[..4]].concat(),
        &[PREFACE, &settings, &[0xff; 64]].concat(),
        &[PREFACE, &settings, &[0, 0, 27, 1, 4, 0, 0, 0, 1], path].concat(),
        &half_message,
    ];
    let mut open = Vec::new();
    for round in 0..5 {
        for input in inputs {
            let mut socket = TcpStream::connect(under.address).await.unwrap();
            // The server may close before it has read everything.
            _ = socket.write_all(input).await;
            if round % 2 == 0 {
                open.push(socket);
            }
        }
    }
    under.serves().await;
    under.cache.set(EVERYONE, topology(4, 0));
    assert_eq!(staying.next().await.unwrap().resources.len(), 4);
    drop(open);
}

/// A request body of raw bytes, sent with a real HTTP/2 client.
async fn raw(under: &Under, body: &'static [u8]) -> http::Response<hyper::body::Incoming> {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let socket = TokioIo::new(TcpStream::connect(under.address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);
    let path = "envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
    let request = http::Request::post(format!("http://{}/{path}", under.address))
        .header("content-type", "application/grpc")
        .body(http_body_util::Full::new(bytes::Bytes::from_static(body)))
        .unwrap();
    sender.send_request(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_end_only_their_own_stream() {
    use http_body_util::BodyExt;
    let under = Under::test(3).await;
    let bodies: [&[u8]; 5] = [
        // Half a prefix, half a message, bytes that are not protobuf, compression that was not agreed
        // on, and a length of 4 GiB.
        &[0, 0, 0],
        &[0, 0, 0, 0, 9, 0x0a],
        &[0, 0, 0, 0, 3, 0xff, 0xff, 0xff],
        &[1, 0, 0, 0, 1, 0],
        &[0, 0xff, 0xff, 0xff, 0xff, 0],
    ];
    for body in bodies {
        let ended = tokio::time::timeout(LIMIT, raw(&under, body).await.into_body().collect()).await;
        let ended = ended.expect("the stream ends").unwrap();
        let status = ended.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        assert!(status.is_some_and(|status| status != "0"), "{body:?}");
    }
    under.no_stream_is_left().await;
    under.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_short_streams_leak_nothing() {
    let under = Under::weighed(10).await;
    let visit = async |count: usize| {
        for _ in 0..count / 20 {
            let visits = (0..20).map(|index| {
                let channel = under.channel();
                async move {
                    let mut client = Client::open(channel.await).await;
                    client.send(ResourceType::Cluster.url(), &[]);
                    // Every second one leaves without waiting for its answer.
                    if index % 2 == 0 {
                        client.next().await.unwrap();
                    }
                }
            });
            futures::future::join_all(visits).await;
        }
        under.no_stream_is_left().await;
    };
    visit(1000).await;
    let before = resident();
    visit(10_000).await;
    let after = resident();
    // Ten times as many connections as before: if each left something behind, memory would grow manyfold.
    assert!(after < 2 * before, "{before} KiB, then {after} KiB");
    under.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_delays_no_other_client_and_uses_bounded_memory() {
    let under = Under::weighed(2000).await;
    let all = names(2000);
    // With windows that hold a tenth of a response, so that it is the server that has to wait.
    let small = Endpoint::from_shared(format!("http://{}", under.address)).unwrap();
    let small = small.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let mut deaf = Vec::new();
    for _ in 0..10 {
        let client = Client::open(small.connect().await.unwrap()).await;
        client.send(ResourceType::Cluster.url(), &[]);
        client.send(ResourceType::Endpoints.url(), &all);
        // It accepts what it never read: the nonces are easy to guess.
        for nonce in 1..=80 {
            for (kind, names) in [(ResourceType::Cluster, &[][..]), (ResourceType::Endpoints, &all)] {
                let (type_url, resource_names) = (kind.url().to_owned(), names.to_vec());
                let response_nonce = nonce.to_string();
                let request =
                    DiscoveryRequest { type_url, resource_names, response_nonce, ..Default::default() };
                client.requests.send(request).unwrap();
            }
        }
        deaf.push(client);
    }
    let mut lively = under.client().await;
    lively.send(ResourceType::Endpoints.url(), &all);
    let mut editions = async |from: u32, to: u32| {
        for edition in from..=to {
            let response = lively.next().await.unwrap();
            lively.ack(&response, &all);
            under.cache.set(EVERYONE, topology(2000, edition));
        }
    };
    editions(1, 10).await;
    let before = resident();
    editions(11, 40).await;
    let after = resident();
    // Thirty topologies of a quarter of a megabyte each, for ten clients that never read: 75 MB, if they were kept.
    assert!(after < before + 37 * 1024, "half of that: {before} KiB, then {after} KiB");
    drop(deaf);
    under.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_subscribe_to_a_hundred_thousand_names() {
    let under = Under::test(3).await;
    let mut greedy = under.client().await;
    let response = greedy.subscribe(ResourceType::Endpoints, &names(100_000)).await.unwrap();
    assert_eq!(response.resources.len(), 3);
    under.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_is_not_served_does_not_break_the_stream() {
    let under = Under::test(3).await;
    let mut client = under.client().await;
    client.send("type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration", &[]);
    client.send(&"x".repeat(10_000), &["a".to_owned()]);
    assert_eq!(client.subscribe(ResourceType::Cluster, &[]).await.unwrap().resources.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reconnect_storm_the_remaining_clients_have_the_newest_state() {
    const EDITIONS: u32 = 3000;
    let under = Under::test(5).await;
    let (done, visits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut staying = Vec::new();
    for _ in 0..10 {
        let mut client = under.client().await;
        let last = topology(5, EDITIONS).of(ResourceType::Endpoints).version().to_string();
        staying.push(tokio::spawn(async move {
            let all = names(5);
            client.send(ResourceType::Endpoints.url(), &all);
            loop {
                let response = client.next().await.unwrap();
                client.ack(&response, &all);
                if response.version_info == last {
                    return;
                }
            }
        }));
    }
    let coming_and_going = {
        let (done, visits, channel) = (Arc::clone(&done), Arc::clone(&visits), under.channel().await);
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let mut client = Client::open(channel.clone()).await;
                client.subscribe(ResourceType::Endpoints, &names(5)).await.unwrap();
                visits.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    for edition in 1..=EDITIONS {
        tick.tick().await;
        under.cache.set(EVERYONE, topology(5, edition));
    }
    done.store(true, Ordering::Relaxed);
    for client in staying {
        tokio::time::timeout(LIMIT, client).await.expect("the newest state in time").unwrap();
    }
    coming_and_going.await.unwrap();
    assert!(visits.load(Ordering::Relaxed) > 0);
    under.no_stream_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_streams_cleanly_and_frees_the_port() {
    let under = Under::test(3).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = under.client().await;
        client.subscribe(ResourceType::Cluster, &[]).await.unwrap();
        clients.push(client);
    }
    assert_eq!(under.server.streams_open(), 20);
    let stopping = under.life.clone();
    let stopped = tokio::spawn(async move { stopping.shut_down(GRACE).await });
    for mut client in clients {
        let end = tokio::time::timeout(LIMIT, client.responses.message()).await.expect("an end in time");
        // `None` is what a trailer with grpc-status 0 becomes; anything else would be an error.
        assert!(end.unwrap().is_none());
    }
    stopped.await.unwrap().unwrap();
    assert_eq!(under.server.streams_open(), 0);
    TcpListener::bind(under.address).await.expect("the port is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_type_is_an_invalid_argument() {
    let under = Under::test(1).await;
    let mut client = under.client().await;
    client.send("", &[]);
    assert_eq!(client.next().await.unwrap_err().code(), Code::InvalidArgument);
    let mut service = AggregatedDiscoveryServiceClient::new(under.channel().await);
    let request = tokio_stream::once(DeltaDiscoveryRequest::default());
    let mut responses = service.delta_aggregated_resources(request).await.unwrap().into_inner();
    assert_eq!(responses.message().await.unwrap_err().code(), Code::InvalidArgument);
    under.no_stream_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fetch_methods_are_not_implemented() {
    use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
    use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient;
    let under = Under::test(1).await;
    let mut clusters = ClusterDiscoveryServiceClient::new(under.channel().await);
    let refusal = clusters.fetch_clusters(DiscoveryRequest::default()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented);
    let mut endpoints = EndpointDiscoveryServiceClient::new(under.channel().await);
    let refusal = endpoints.fetch_endpoints(DiscoveryRequest::default()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented);
    assert_eq!(under.server.streams_open(), 0);
}
