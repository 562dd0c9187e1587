//! The demo as a user runs it, over both variants of the protocol.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mesh_testkit::demo::{self, Demo, text};
use mesh_testkit::{altered_envoy, lab_ports};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use shared::ports;

const DEMO: Demo = Demo::new(env!("CARGO_BIN_EXE_demo3-dynamic"));

/// What `--stay` listens on.
const LAB_PORTS: [u16; 4] = [ports::DEMO3_ENVOY, ports::DEMO3_ADMIN, ports::DEMO3_XDS, ports::DEMO3_CONTROL];

/// Every claim of the story, in order.
const CLAIMS: [&str; 25] = [
    "starts-empty",
    "port-closed",
    "make-before-break",
    "listener-after-endpoints",
    "http-ok",
    "tls-trusted",
    "tls-untrusted",
    "tls-only",
    "weights-100-0",
    "weights-90-10",
    "weights-50-50",
    "weights-0-100",
    "shift-no-failure",
    "invalid-weights-rejected",
    "invalid-weights-no-impact",
    "invalid-listener-rejected",
    "invalid-listener-no-impact",
    "rejection-no-failure",
    "rotation-sends-sds",
    "rotation-new-connection",
    "rotation-open-connection",
    "reconnect-sends-nothing",
    "outage-no-failure",
    "removal-port-closed",
    "removal-in-flight-completes",
];

fn every_claim_holds(protocol: &str) -> Output {
    let output = DEMO.run(&["--json", "--protocol", protocol, "--xds-log=json"]);
    let report = demo::report(&output, 0);
    assert_eq!(report["demo"], "demo3-dynamic");
    assert!(report["versions"]["envoy"].is_string(), "{report:#}");
    assert_eq!(report["steps"].as_array().unwrap().len(), 8);
    demo::assert_every_claim_holds(&report, &CLAIMS);
    output
}

#[test]
fn an_envoy_with_a_static_listener_breaks_the_claim_that_it_starts_empty() {
    let folder = tempfile::tempdir().unwrap();
    let any_port = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    let echo = json!({ "@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo" });
    let listener = json!({
        "name": "unexpected",
        "address": any_port,
        "filter_chains": [{ "filters": [{ "name": "echo", "typed_config": echo }] }],
    });
    let more = json!({ "static_resources": { "listeners": [listener] } });
    let envoy = altered_envoy::with_more_configuration(folder.path(), &more);
    let envoy = envoy.to_str().unwrap();
    assert_eq!(demo::broken_in_summary(&DEMO.run(&["--envoy", envoy])), ["starts-empty"]);
    let report = demo::report(&DEMO.run(&["--json", "--protocol", "delta", "--envoy", envoy]), 1);
    demo::assert_broken(&report, &["starts-empty"]);
    assert_eq!(demo::ids(&report), CLAIMS);
    assert_eq!((&report["claims"][0]["expected"], &report["claims"][0]["seen"]), (&"0".into(), &"1".into()));
}

/// Returns the events of the xDS log. Each line must be JSON, and none may contain a private key.
fn xds_log(output: &Output) -> Vec<Value> {
    let lines = text(&output.stderr);
    assert!(!lines.contains("PRIVATE KEY"));
    // The demo may install Envoy first, which it reports on stderr too.
    lines
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_claim_holds_over_state_of_the_world_xds() {
    let events = xds_log(&every_claim_holds("sotw"));
    assert!(events.iter().any(|event| event["event"] == "nack"));
    assert!(events.iter().all(|event| event["delta"] == false));
}

#[test]
fn every_claim_holds_over_delta_xds() {
    let events = xds_log(&every_claim_holds("delta"));
    assert!(events.iter().any(|event| event["event"] == "nack"));
    assert!(events.iter().all(|event| event["delta"] == true));
}

#[test]
fn an_unknown_protocol_is_wrong_usage() {
    let output = DEMO.run(&["--protocol", "rest"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("sotw") && stderr.contains("delta"), "{stderr}");
}

#[test]
fn a_missing_envoy_is_wrong_usage() {
    let output = DEMO.run(&["--envoy", "/nowhere/envoy"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere/envoy"));
}

#[test]
fn stay_serves_the_http_interface_until_ctrl_c() {
    lab_ports::with_free("stay_serves_the_http_interface_until_ctrl_c", &LAB_PORTS, || {
        let mut running = DEMO.start(&["--stay"]);
        running.read_until("Everything stays up");
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
        running.signal(Signal::INT);
        let (code, printed) = running.finish();
        assert_eq!(code, Some(0), "{printed}");
    });
}

#[test]
fn stay_on_a_port_that_is_in_use_names_the_port_and_the_next_step() {
    lab_ports::assert_stay_names_a_port_in_use(DEMO, &LAB_PORTS);
}

/// Starts the demo with its temporary files in this folder, and waits until Envoy has created its own there.
fn start_demo(temporary: &Path) -> Child {
    let before = list_folders(temporary);
    // A test run under `nohup` ignores SIGHUP. The demo would inherit that, and rightly ignore it too.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_demo3-dynamic")]);
    command.env("TMPDIR", temporary).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut demo = command.spawn().unwrap();
    // The demo may install Envoy first.
    let ended = Instant::now() + Duration::from_secs(180);
    let has_new_folder = |path: &PathBuf| !before.contains(path) && path.join("admin-address").exists();
    while !list_folders(temporary).iter().any(has_new_folder) {
        assert!(Instant::now() < ended && demo.try_wait().unwrap().is_none(), "no Envoy");
        std::thread::sleep(Duration::from_millis(5));
    }
    demo
}

fn list_folders(temporary: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn signals_leave_no_files_and_the_next_run_removes_those_of_a_killed_run() {
    let temporary = tempfile::tempdir().unwrap();
    for (signal, code) in [(Signal::KILL, None), (Signal::HUP, Some(129)), (Signal::QUIT, Some(131))] {
        let before = list_folders(temporary.path());
        let mut demo = start_demo(temporary.path());
        for orphan in before {
            assert!(!orphan.exists(), "{} is still there", orphan.display());
        }
        kill_process(Pid::from_child(&demo), signal).unwrap();
        assert_eq!(demo.wait().unwrap().code(), code, "{signal:?}");
        let left = list_folders(temporary.path());
        assert_eq!(left.len(), usize::from(code.is_none()), "{signal:?} leaves {left:?}");
    }
}
