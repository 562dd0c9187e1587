//! The demo in containers: what compose.yaml promises, on a real Docker, with a real Prometheus.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use demo1_metrics::prometheus::Api;
use http::Request;
use http_body_util::Full;
use mesh_testkit::compose::Plan;
use shared::client::Client;
use shared::poll::wait_until;

const LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker"]
async fn prometheus_counts_requests_shows_a_fault_and_alerts_on_a_killed_sidecar() {
    let variables = ["", "PROMETHEUS_", "FRONT_ADMIN_", "A_ADMIN_", "B_ADMIN_", "C_ADMIN_", "A_", "B_", "C_"];
    let plan = Plan {
        file: Path::new(env!("CARGO_MANIFEST_DIR")).join("compose.yaml"),
        programs: [env!("CARGO_BIN_EXE_demo1-service"), env!("CARGO_BIN_EXE_demo1-load")]
            .map(Into::into)
            .to_vec(),
        ports: variables.map(|name| format!("DEMO1_{name}PORT")).to_vec(),
    };
    let stack = plan.up().await.unwrap();
    let loopback = |name: &str| SocketAddr::from(([127, 0, 0, 1], stack.port(&format!("DEMO1_{name}PORT"))));
    let prometheus = Api::new(loopback("PROMETHEUS_"));
    let count = async |query: &str| {
        let value = prometheus.value(query, SystemTime::now()).await.unwrap();
        value.unwrap_or_else(|| panic!("no data for {query}"))
    };

    let message = stack.run(&["run", "--rm", "load", "--duration", "4", "--rate", "50"]).await.unwrap();
    assert!(message.contains("200 succeeded, 0 failed") && message.contains("up to"), "{message}");
    prometheus.wait_for_scrapes(7).await.unwrap();
    let front = r#"envoy_http_downstream_rq_total{instance="front",envoy_http_conn_manager_prefix="in"}"#;
    for (query, expected) in [
        (front, 200.0),
        (r#"sum(http_requests_total{instance="a",code="200"})"#, 200.0),
        (r#"sum(http_requests_total{instance=~"b|c",code="200"})"#, 400.0),
        (r#"sum(ALERTS{alertstate="firing"}) or vector(0)"#, 0.0),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }

    // From the host, as a person does it: c fails, nobody in front sees it, and the retries tell.
    let client = Client::new(LIMIT);
    let fault = Request::put(format!("http://{}/fault", loopback("C_")));
    let fault = fault.body(Full::new(Bytes::from_static(br#"{"error_percent": 20}"#))).unwrap();
    assert_eq!(client.send(fault).await.unwrap().status(), 200);
    let message = stack.run(&["run", "--rm", "load", "--duration", "4", "--rate", "50"]).await.unwrap();
    assert!(message.contains("200 succeeded, 0 failed"), "{message}");
    prometheus.wait_for_scrapes(7).await.unwrap();
    let errors = count(r#"http_requests_total{instance="c",code="503"}"#).await;
    let retries = count(r#"envoy_cluster_upstream_rq_retry{instance="a",envoy_cluster_name="c"}"#).await;
    assert!(errors > 40.0 && errors == retries, "{errors} errors, {retries} retries");

    let containers = stack.containers("c-envoy").await.unwrap();
    stack.kill(&containers[0]).await.unwrap();
    let firing = r#"ALERTS{alertname="EnvoyDown",alertstate="firing"}"#;
    let named = wait_until("EnvoyDown to fire", POLL_INTERVAL, LIMIT, || async {
        let firing = prometheus.instant(firing, SystemTime::now()).await;
        let firing = firing.map_err(|error| error.to_string())?;
        let first = firing.first().ok_or("no alert")?;
        Ok::<_, String>(first.labels["instance"].clone())
    });
    assert_eq!(named.await.unwrap(), "c");
    assert_eq!(stack.down().await.unwrap(), []);
}
