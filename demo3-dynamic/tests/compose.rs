//! The demo in containers: what compose.yaml promises, on a real Docker.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use demo3_dynamic::client::Client;
use mesh_testkit::compose::Plan;
use serde_json::Value;
use shared::poll::wait_until;
use shared::ports::{DEMO3_ADMIN, DEMO3_CONTROL, DEMO3_ENVOY};
use shared::tools;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(30);
const OFTEN: Duration = Duration::from_millis(5);

fn file(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

async fn put_weights(address: SocketAddr, body: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head =
        format!("PUT /weights HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, connection.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker"]
async fn traffic_shifts_by_requests_from_the_host() {
    let plan = Plan {
        file: file("compose.yaml"),
        programs: ["demo3-app", "demo3-control-plane"]
            .map(|name| Path::new(env!("CARGO_BIN_EXE_demo3-app")).with_file_name(name))
            .to_vec(),
        ports: ["DEMO3_PORT", "DEMO3_ADMIN_PORT", "DEMO3_CONTROL_PORT"].map(Into::into).to_vec(),
    };
    let stack = plan.up().await.unwrap();
    let client = Client::plain(loopback(stack.port("DEMO3_PORT")));
    let wait_for_app = async |app: &str| {
        wait_until(app, OFTEN, LIMIT, || async {
            let answer = client.get("/").await.map_err(|refusal| refusal.to_string())?;
            if answer.body == app { Ok(()) } else { Err(answer.body) }
        })
        .await
        .unwrap();
    };
    wait_for_app("blue").await;
    let answer = put_weights(loopback(stack.port("DEMO3_CONTROL_PORT")), r#"{"blue":0,"green":1}"#).await;
    assert!(answer.contains("\"accepted\": true"), "{answer}");
    wait_for_app("green").await;
    assert_eq!(stack.down().await.unwrap(), []);
}

#[test]
fn only_lab_ports_are_published_and_only_on_loopback() {
    let compose: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(file("compose.yaml")).unwrap()).unwrap();
    let mut published = Vec::new();
    for (name, service) in compose["services"].as_object().unwrap() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert!(!service["user"].as_str().unwrap().starts_with("0:"), "{name}");
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
        let ports = service["ports"].as_array().into_iter().flatten();
        published.extend(ports.map(|port| port.as_str().unwrap().to_owned()));
    }
    published.sort();
    let expected = [
        format!("127.0.0.1:${{DEMO3_ADMIN_PORT:-{DEMO3_ADMIN}}}:9901"),
        format!("127.0.0.1:${{DEMO3_CONTROL_PORT:-{DEMO3_CONTROL}}}:{DEMO3_CONTROL}"),
        format!("127.0.0.1:${{DEMO3_PORT:-{DEMO3_ENVOY}}}:{DEMO3_ENVOY}"),
    ];
    assert_eq!(published, expected);
}

#[tokio::test]
async fn envoy_accepts_its_bootstrap() {
    let choice = std::env::var_os("ENVOY");
    let program = tools::envoy(choice.as_deref().map(Path::new)).await.unwrap();
    let mut command = tokio::process::Command::new(&program.path);
    command.args(["--mode", "validate", "-l", "warning", "--config-path"]).arg(file("envoy/envoy.yaml"));
    let output = shared::child::output(command, LIMIT).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
