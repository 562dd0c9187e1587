//! The demo as a user runs it, over both variants of the protocol.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shared::ports;

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo3-dynamic"));
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every claim of the story, in order.
const CLAIMS: [&str; 25] = [
    "starts-empty",
    "port-refuses",
    "make-before-break",
    "listener-waits",
    "plain-http-answers",
    "tls-trusted",
    "tls-untrusted",
    "tls-only",
    "weights-100-0",
    "weights-90-10",
    "weights-50-50",
    "weights-0-100",
    "shift-no-failure",
    "bad-weights-refused",
    "bad-weights-goes-on",
    "bad-listener-refused",
    "bad-listener-goes-on",
    "mistakes-no-failure",
    "rotation-sends-secret",
    "new-serial",
    "open-connection-lives",
    "return-repeats-nothing",
    "alone-no-failure",
    "removed-port-refuses",
    "in-flight-ends-well",
];

fn every_claim_holds(protocol: &str) -> Output {
    let output = run(&["--json", "--protocol", protocol, "--xds-log=json"]);
    assert_eq!(output.status.code(), Some(0), "{}\n{}", text(&output.stdout), text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["held"], &report["demo"]), (&Value::Bool(true), &"demo3-dynamic".into()));
    assert_eq!(report["steps"].as_array().unwrap().len(), 8);
    let claims = report["claims"].as_array().unwrap();
    let ids: Vec<&str> = claims.iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    assert_eq!(ids, CLAIMS);
    assert!(claims.iter().all(|claim| claim["verdict"] == "held"), "{claims:#?}");
    output
}

/// The xDS log's events, all of which must be JSON, and hold no key.
fn xds_log(output: &Output) -> Vec<Value> {
    let lines = text(&output.stderr);
    assert!(!lines.contains("PRIVATE KEY"));
    // Envoy may have to be installed first, which is said on stderr too.
    lines
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_claim_holds_over_the_state_of_the_world() {
    let events = xds_log(&every_claim_holds("sotw"));
    assert!(events.iter().any(|event| event["event"] == "nack"));
    assert!(events.iter().all(|event| event["delta"] == false));
}

#[test]
fn every_claim_holds_over_the_incremental_protocol() {
    let events = xds_log(&every_claim_holds("delta"));
    assert!(events.iter().any(|event| event["event"] == "nack"));
    assert!(events.iter().all(|event| event["delta"] == true));
}

#[test]
fn a_protocol_that_there_is_not_is_wrong_usage() {
    let output = run(&["--protocol", "rest"]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = text(&output.stderr);
    assert!(complaint.contains("sotw") && complaint.contains("delta"), "{complaint}");
}

#[test]
fn a_wrong_envoy_is_refused_before_anything_starts() {
    let output = run(&["--envoy", "/nowhere/envoy"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere/envoy"));
}

#[test]
fn stay_lets_a_person_drive_it_with_curl_until_ctrl_c() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo3-dynamic"))
        .arg("--stay")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(demo.stdout.take().unwrap());
    let mut told = String::new();
    while !told.lines().any(|line| line.starts_with("Everything stays up")) {
        assert!(stdout.read_line(&mut told).unwrap() > 0, "it ended early: {:?}:\n{told}", demo.wait());
    }
    let call = |port: u16, request: &str| {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    };
    // The story ended with all traffic on green; one PUT later it is on blue.
    let head = "HTTP/1.1\r\nhost: x\r\nconnection: close";
    assert!(call(ports::DEMO3_ENVOY, &format!("GET / {head}\r\n\r\n")).ends_with("green"));
    let body = r#"{"blue":1,"green":0}"#;
    let put = format!("PUT /weights {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let answer = call(ports::DEMO3_CONTROL, &put);
    assert!(answer.contains("\"accepted\": true"), "{answer}");
    let clients = call(ports::DEMO3_CONTROL, &format!("GET /clients {head}\r\n\r\n"));
    assert!(clients.contains("demo3-envoy"), "{clients}");
    kill_process(Pid::from_child(&demo), Signal::INT).unwrap();
    // Read on, so that a full pipe cannot hold it up.
    stdout.read_to_string(&mut told).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(0), "{told}");
}

/// Starts the story with a folder for temporary files of its own, and waits until Envoy has one in it.
fn begin(temporary: &Path) -> Child {
    let before = folders(temporary);
    // Who runs the tests with `nohup` would hand the ignored SIGHUP on, and the story would rightly keep to it.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_demo3-dynamic")]);
    command.env("TMPDIR", temporary).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut demo = command.spawn().unwrap();
    // It may have to install Envoy first.
    let ended = Instant::now() + Duration::from_secs(180);
    let fresh = |path: &PathBuf| !before.contains(path) && path.join("admin-address").exists();
    while !folders(temporary).iter().any(fresh) {
        assert!(Instant::now() < ended && demo.try_wait().unwrap().is_none(), "no Envoy");
        std::thread::sleep(Duration::from_millis(5));
    }
    demo
}

fn folders(temporary: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_signal_leaves_nothing_behind_and_what_a_kill_leaves_the_next_run_removes() {
    let temporary = tempfile::tempdir().unwrap();
    for (signal, code) in [(Signal::KILL, None), (Signal::HUP, Some(129)), (Signal::QUIT, Some(131))] {
        let before = folders(temporary.path());
        let mut demo = begin(temporary.path());
        for orphan in before {
            assert!(!orphan.exists(), "{} is still there", orphan.display());
        }
        kill_process(Pid::from_child(&demo), signal).unwrap();
        assert_eq!(demo.wait().unwrap().code(), code, "{signal:?}");
        let left = folders(temporary.path());
        assert_eq!(left.len(), usize::from(code.is_none()), "{signal:?} leaves {left:?}");
    }
}
