//! The xDS server's metrics: valid Prometheus names, and exact values after a known exchange.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use envoy_types::pb::google::rpc::Status;
use mesh_xds::cache::EVERYONE;
use mesh_xds::metrics::{self, Metrics};
use mesh_xds::{Cache, Resource, ResourceType, Server, Snapshot, builders};
use prometheus::Registry;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::poll::wait_until;
use shared::web;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::UnboundedReceiverStream;

const LIMIT: Duration = Duration::from_secs(30);

fn topology(timeout: i64) -> Snapshot {
    let mut cluster = builders::cluster("echo");
    cluster.connect_timeout.get_or_insert_default().seconds = timeout;
    let resources =
        [Resource::new(&cluster).unwrap(), Resource::new(&builders::endpoints("echo", &[])).unwrap()];
    Snapshot::new(resources).unwrap()
}

/// What a scraper gets of this path: the head's first line, and everything behind the head.
async fn scrape(at: SocketAddr, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Waits until the page has this line; returns the page.
async fn shows(at: SocketAddr, line: &str) -> String {
    let look = || async {
        let (status, page) = scrape(at, "/metrics").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        if page.lines().any(|one| one == line) { Ok(page) } else { Err(page) }
    };
    wait_until(line, Duration::from_millis(5), LIMIT, look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counters_are_exact_after_a_known_exchange() {
    let life = Lifecycle::default();
    let registry = Registry::new();
    let (xds, pages) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (xds_at, pages_at) = (xds.local_addr().unwrap(), pages.local_addr().unwrap());
    let cache = Arc::new(Cache::default());
    cache.set(EVERYONE, topology(1));
    let server = Server::builder(Arc::clone(&cache), life.token())
        .metrics(Metrics::register(&registry).unwrap())
        .build();
    life.spawn(server.serve(xds));
    web::serve_metrics(pages, &life, move || metrics::text(&registry));

    let (requests, receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut service = AggregatedDiscoveryServiceClient::connect(format!("http://{xds_at}")).await.unwrap();
    let sent = UnboundedReceiverStream::new(receiver);
    let mut responses = service.delta_aggregated_resources(sent).await.unwrap().into_inner();
    let clusters = ResourceType::Cluster.url();
    let say = |url: &str, nonce: &str, error: Option<&str>| {
        let error_detail = error.map(|message| Status { message: message.to_owned(), ..Status::default() });
        let (type_url, response_nonce) = (url.to_owned(), nonce.to_owned());
        let request = DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() };
        requests.send(request).unwrap();
    };
    // Ask, ACK, a push, NACK, and a type that is not served.
    say(clusters, "", None);
    let first = responses.message().await.unwrap().unwrap();
    say(clusters, &first.nonce, None);
    shows(pages_at, "xds_acks_total{type=\"CDS\"} 1").await;
    cache.set(EVERYONE, topology(2));
    let second = responses.message().await.unwrap().unwrap();
    say(clusters, &second.nonce, Some("echo: no"));
    say("type.googleapis.com/unheard.of", "", None);

    // The last request has no answer: look until it is counted.
    let page = shows(pages_at, "xds_requests_total{type=\"other\"} 1").await;
    use prost::Message as _;
    let bytes = first.encoded_len() + second.encoded_len() + 2 * 5;
    for line in [
        "xds_open_streams{variant=\"delta\"} 1",
        "xds_open_streams{variant=\"sotw\"} 0",
        "xds_requests_total{type=\"CDS\"} 3",
        "xds_requests_total{type=\"EDS\"} 0",
        "xds_responses_total{type=\"CDS\"} 2",
        "xds_acks_total{type=\"CDS\"} 1",
        "xds_nacks_total{type=\"CDS\"} 1",
        "xds_rejecting_streams{type=\"CDS\"} 1",
        "xds_push_seconds_count 1",
        &format!("xds_sent_bytes_total {bytes}"),
    ] {
        assert!(page.lines().any(|one| one == line), "{line} is not in\n{page}");
    }
    let units = ["_streams", "_total", "_seconds"];
    let mut named = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    assert!(named.all(|name| units.iter().any(|unit| name.ends_with(unit))), "{page}");

    assert_eq!(scrape(pages_at, "/other").await.0, "HTTP/1.1 404 Not Found");
    drop((requests, responses));
    shows(pages_at, "xds_open_streams{variant=\"delta\"} 0").await;
    shows(pages_at, "xds_rejecting_streams{type=\"CDS\"} 0").await;
    life.shut_down(GRACE).await.unwrap();
}

#[test]
fn registering_the_metrics_twice_is_an_error() {
    let registry = Registry::new();
    Metrics::register(&registry).unwrap();
    assert!(Metrics::register(&registry).is_err());
}
