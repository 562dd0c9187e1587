//! The roles as real processes: a person with curl, a control plane, two apps and the real Envoy.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use demo3_dynamic::client::Client;
use serde_json::{Value, json};
use shared::envoy::{Bootstrap, Envoy};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::poll::wait_until;
use shared::tools;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CONTROL_PLANE: &str = env!("CARGO_BIN_EXE_demo3-control-plane");
const APP: &str = env!("CARGO_BIN_EXE_demo3-app");
const LIMIT: Duration = Duration::from_secs(30);
const OFTEN: Duration = Duration::from_millis(5);

struct Role {
    child: Child,
    /// The addresses in its first line.
    addresses: Vec<SocketAddr>,
}

impl Role {
    fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words = line.split_whitespace().map(|word| word.trim_start_matches("http://"));
        let addresses: Vec<_> = words.filter_map(|word| word.parse().ok()).collect();
        assert!(!addresses.is_empty(), "no address in {line:?}");
        Self { child, addresses }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).stdin(Stdio::null()).output().unwrap()
}

/// One HTTP request as curl would send it; status and JSON (or text) answered.
async fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, connection.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())))
}

/// Two apps and a control plane for an Envoy listener at `edge`.
fn roles(edge: SocketAddr, more: &[&str]) -> (Role, Role, Role) {
    let blue = Role::start(APP, &["--name", "blue"]);
    let green = Role::start(APP, &["--name", "green"]);
    let (blue_address, green_address) = (blue.addresses[0].to_string(), green.addresses[0].to_string());
    let edge = edge.to_string();
    let mut args = vec!["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--envoy-listen", &edge];
    args.extend(["--blue", &blue_address, "--green", &green_address]);
    args.extend(more);
    let control_plane = Role::start(CONTROL_PLANE, &args);
    (blue, green, control_plane)
}

async fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn envoy_follows_the_http_interface() {
    let (life, edge) = (Lifecycle::default(), free_address().await);
    let (_blue, _green, control_plane) = roles(edge, &[]);
    let &[xds, admin] = control_plane.addresses.as_slice() else { panic!("two addresses") };
    let program_path = std::env::var_os("ENVOY");
    let program = tools::envoy(program_path.as_deref().map(Path::new)).await.unwrap();
    let envoy = Envoy::new(&program, Bootstrap::new("roles", xds).to_yaml());
    let envoy = envoy.start(&life).await.unwrap().ready(Duration::from_secs(60)).await.unwrap();
    let client = Client::plain(edge);
    let wait_for_app = async |app: &str| {
        wait_until(app, OFTEN, LIMIT, || async {
            let answer = client.get("/").await.map_err(|refusal| refusal.to_string())?;
            if answer.body == app { Ok(()) } else { Err(answer.body) }
        })
        .await
        .unwrap();
    };
    wait_for_app("blue").await;

    let (status, answer) = call(admin, "PUT", "/weights", r#"{"blue":0,"green":5}"#).await;
    assert_eq!((status, answer), (200, json!({ "weights": { "blue": 0, "green": 5 }, "accepted": true })));
    wait_for_app("green").await;

    // Many at once: each is told at once whether Envoy took it, or another one was faster.
    let shifts = (1..=20).map(|green| async move {
        call(admin, "PUT", "/weights", &format!(r#"{{"blue":0,"green":{green}}}"#)).await.1
    });
    for answer in futures::future::join_all(shifts).await {
        let why = answer["reason"].as_str().unwrap_or_default();
        assert!(answer["accepted"] == true || why.contains("another snapshot replaced it"), "{answer}");
    }

    let (status, snapshot) = call(admin, "GET", "/snapshot", "").await;
    let kinds: Vec<&str> =
        snapshot.as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!((status, kinds.as_slice()), (200, ["CDS", "CDS", "EDS", "EDS", "LDS", "RDS"].as_slice()));

    let (status, clients) = call(admin, "GET", "/clients", "").await;
    assert_eq!((status, &clients[0]["node"]), (200, &"roles".into()));
    assert!(clients[0]["types"]["RDS"].as_str().unwrap().starts_with("accepted "), "{clients}");
    assert!(clients[0]["status"]["synced"].is_u64(), "{clients}");

    let (status, xds_log) = call(admin, "GET", "/xds-log", "").await;
    let lines = xds_log.as_str().unwrap().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(status == 200 && lines.count() > 8);
    let (status, metrics_text) = call(admin, "GET", "/metrics", "").await;
    let metrics_text = metrics_text.as_str().unwrap();
    assert_eq!(status, 200);
    assert!(metrics_text.contains("xds_open_streams{variant=\"sotw\"} 1\n"), "{metrics_text}");
    // What is published is what was accepted last, so there is nothing to go back to.
    assert_eq!(call(admin, "POST", "/rollback", "").await.0, 409);

    envoy.stop().await;
    life.shut_down(GRACE).await.unwrap();
}

#[tokio::test]
async fn invalid_weights_are_rejected_with_field_and_reason() {
    let (_blue, _green, control_plane) = roles(free_address().await, &[]);
    let admin = control_plane.addresses[1];
    let before = call(admin, "GET", "/snapshot", "").await;
    for (body, field, reason) in [
        ("", "body", "JSON"),
        ("[1]", "body", "JSON"),
        (r#"{"blue":80,"blue":20,"green":1}"#, "body", "'blue' stands twice"),
        (r#"{"blue":1}"#, "green", "missing"),
        (r#"{"blue":1,"green":-1}"#, "green", "whole number"),
        (r#"{"blue":1.5,"green":1}"#, "blue", "whole number"),
        (r#"{"blue":4294967296,"green":1}"#, "blue", "whole number"),
        (r#"{"blue":"1","green":1}"#, "blue", "whole number"),
        (r#"{"blue":0,"green":0}"#, "blue", "add up to nothing"),
        (r#"{"blue":1,"green":1,"red":1}"#, "red", "no such app"),
    ] {
        let (status, answer) = call(admin, "PUT", "/weights", body).await;
        assert_eq!((status, &answer["field"]), (400, &field.into()), "{body}: {answer}");
        assert!(answer["reason"].as_str().unwrap().contains(reason), "{body}: {answer}");
    }
    let (status, answer) = call(admin, "PUT", "/weights", &" ".repeat(70_000)).await;
    assert_eq!((status, &answer["field"]), (400, &"body".into()), "{answer}");
    assert_eq!(call(admin, "GET", "/weights", "").await.0, 405);
    assert_eq!(call(admin, "GET", "/elsewhere", "").await.0, 404);
    assert_eq!(call(admin, "GET", "/snapshot", "").await, before);
}

#[tokio::test]
async fn an_app_answers_with_its_name_and_rejects_unknown_requests() {
    let app = Role::start(APP, &["--name", "blue"]);
    let address = app.addresses[0];
    assert_eq!(call(address, "GET", "/", "").await, (200, "blue".into()));
    assert_eq!(call(address, "GET", "/slow?ms=1", "").await, (200, "blue".into()));
    for (method, path, status) in
        [("GET", "/slow", 400), ("GET", "/slow?ms=10001", 400), ("GET", "/x", 404), ("POST", "/", 405)]
    {
        assert_eq!(call(address, method, path, "").await.0, status, "{method} {path}");
    }
    let healthy = run(APP, &["healthcheck", "--listen", &address.to_string()]);
    assert_eq!(healthy.status.code(), Some(0));
}

#[tokio::test]
async fn wrong_flags_are_exit_code_2_with_the_next_step() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let used_address = holder.local_addr().unwrap().to_string();
    for (args, expected) in [
        (vec!["--listen", &used_address], "is taken"),
        (vec!["--listen", &used_address], "--listen (or LISTEN)"),
        (vec!["--listen", "127.0.0.1:0", "--admin", &used_address], "is taken"),
        (vec!["--listen", "127.0.0.1:0", "--admin", &used_address], "--admin (or ADMIN)"),
        (
            vec!["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--blue", "nowhere.invalid:1"],
            "HOST:PORT",
        ),
        (vec!["--chain", "/nowhere.pem"], "--key"),
        (
            vec![
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--chain",
                "/no.pem",
                "--key",
                "/no.pem",
            ],
            "-p mesh-pki",
        ),
    ] {
        let output = run(CONTROL_PLANE, &args);
        let stderr_text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr_text}");
        assert!(stderr_text.contains(expected), "{args:?}: {stderr_text}");
    }
    for role in [APP, CONTROL_PLANE] {
        assert_eq!(run(role, &["healthcheck", "--listen", "127.0.0.1:1"]).status.code(), Some(1));
        assert_eq!(run(role, &["healthcheck", "--listen", "127.0.0.1:0"]).status.code(), Some(2));
    }
}

#[test]
fn sigterm_right_after_startup_exits_with_0() {
    for _ in 0..20 {
        let mut app = Role::start(APP, &["--name", "blue"]);
        let pid = rustix::process::Pid::from_child(&app.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        // Not by the signal, which would be no exit code.
        assert_eq!(app.child.wait().unwrap().code(), Some(0));
    }
}
