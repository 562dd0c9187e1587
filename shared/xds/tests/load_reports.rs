//! Load reports: a client's counts become rates, and are dropped when it disconnects.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use envoy_types::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use envoy_types::pb::google::protobuf;
use mesh_xds::cache::{Cache, OnRejection};
use mesh_xds::{ControlPlane, LoadReports};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::poll::wait_until;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

const OFTEN: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(20);

async fn control_plane(loads: Option<LoadReports>, life: &Lifecycle) -> ControlPlane {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    ControlPlane::serve(listener, Cache::default().on_rejection(OnRejection::Keep), loads, &life.token())
        .unwrap()
}

/// A client that has introduced itself, and what it was asked to do.
async fn client(
    node: &str,
    at: SocketAddr,
) -> (mpsc::Sender<LoadStatsRequest>, Streaming<LoadStatsResponse>, LoadStatsResponse) {
    let mut client = LoadReportingServiceClient::connect(format!("http://{at}")).await.unwrap();
    let (reports, requests) = mpsc::channel(4);
    let node = Node { id: node.to_owned(), ..Node::default() };
    reports.send(LoadStatsRequest { node: Some(node), ..LoadStatsRequest::default() }).await.unwrap();
    let mut answers = client.stream_load_stats(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let asked = answers.message().await.unwrap().unwrap();
    (reports, answers, asked)
}

/// A report of so many requests within so long.
fn report(cluster: &str, region: &str, requests: u64, within: Option<Duration>) -> LoadStatsRequest {
    let place = UpstreamLocalityStats {
        locality: Some(Locality { region: region.to_owned(), ..Locality::default() }),
        total_issued_requests: requests,
        total_error_requests: 1,
        ..UpstreamLocalityStats::default()
    };
    let stats = ClusterStats {
        cluster_name: cluster.to_owned(),
        upstream_locality_stats: vec![place],
        load_report_interval: within.map(|within| protobuf::Duration {
            seconds: within.as_secs().try_into().unwrap(),
            nanos: within.subsec_nanos().try_into().unwrap(),
        }),
        ..ClusterStats::default()
    };
    LoadStatsRequest { cluster_stats: vec![stats], ..LoadStatsRequest::default() }
}

async fn until(what: &str, loads: &LoadReports, expected: &[(&str, f64)]) {
    let expected: Vec<(String, f64)> =
        expected.iter().map(|(name, rate)| ((*name).to_owned(), *rate)).collect();
    wait_until(what, OFTEN, LIMIT, async || {
        let now: Vec<_> = loads.by_region(|cluster| cluster == "echo").into_iter().collect();
        if now == expected { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn rates_use_the_reported_interval_and_are_summed_over_clients() {
    let (life, loads) = (Lifecycle::default(), LoadReports::with_interval(Duration::from_millis(1500)));
    let plane = control_plane(Some(loads.clone()), &life).await;
    let (one, _answers, asked) = client("one", plane.address()).await;
    assert!(asked.send_all_clusters);
    let every = asked.load_reporting_interval.unwrap();
    assert_eq!((every.seconds, every.nanos), (1, 500_000_000));

    one.send(report("echo", "east", 100, Some(Duration::from_secs(2)))).await.unwrap();
    until("the first report", &loads, &[("east", 50.0)]).await;
    let (two, _answers, _) = client("two", plane.address()).await;
    two.send(report("echo", "east", 30, Some(Duration::from_millis(500)))).await.unwrap();
    until("the sum of both", &loads, &[("east", 110.0)]).await;
    // A newer report replaces the older one. Other clusters do not count.
    one.send(report("xds", "east", 9999, Some(Duration::from_secs(1)))).await.unwrap();
    until("the other cluster to be left out", &loads, &[("east", 60.0)]).await;
    assert_eq!(loads.loads().iter().filter(|load| &*load.node == "one").count(), 1);
    life.shut_down(GRACE).await.unwrap();
}

#[tokio::test]
async fn the_load_of_a_disconnected_client_is_dropped() {
    let (life, loads) = (Lifecycle::default(), LoadReports::with_interval(Duration::from_secs(1)));
    let plane = control_plane(Some(loads.clone()), &life).await;
    let (reports, answers, _) = client("one", plane.address()).await;
    reports.send(report("echo", "west", 10, Some(Duration::from_secs(1)))).await.unwrap();
    until("its report", &loads, &[("west", 10.0)]).await;
    drop((reports, answers));
    until("its end", &loads, &[]).await;
    life.shut_down(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_report_without_an_interval_has_no_rate() {
    let (life, loads) = (Lifecycle::default(), LoadReports::with_interval(Duration::from_secs(1)));
    let plane = control_plane(Some(loads.clone()), &life).await;
    let (reports, _answers, _) = client("one", plane.address()).await;
    let mut changes = loads.subscribe();
    for within in [None, Some(Duration::ZERO)] {
        reports.send(report("echo", "west", 10, within)).await.unwrap();
        tokio::time::timeout(LIMIT, changes.changed()).await.unwrap().unwrap();
    }
    assert_eq!(loads.loads(), []);
    life.shut_down(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_control_plane_without_load_reports_answers_unimplemented() {
    let life = Lifecycle::default();
    let plane = control_plane(None, &life).await;
    let mut client =
        LoadReportingServiceClient::connect(format!("http://{}", plane.address())).await.unwrap();
    let refused = client.stream_load_stats(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    life.shut_down(GRACE).await.unwrap();
}
