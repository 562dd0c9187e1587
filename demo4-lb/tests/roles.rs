//! The roles as a terminal or a container runs them: real processes, their flags, their exit codes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{BACKEND, CLIENT, LIMIT, Role, command, run, stderr};
use demo4_lb::backend::Backend;
use rustix::process::{Pid, Signal, kill_process};
use shared::lifecycle::Lifecycle;
use shared::proto::echo::EchoRequest;
use shared::proto::echo::echo_client::EchoClient;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[tokio::test]
async fn every_reply_carries_the_name_and_locality_of_the_backend() {
    let role = Role::backend(&["--name", "east-1", "--locality", "east"]);
    let mut client = EchoClient::connect(role.url()).await.unwrap();
    let reply = client.say(EchoRequest { text: "hi".into() }).await.unwrap();
    let reply = reply.into_inner();
    assert_eq!(
        (reply.text.as_str(), reply.backend.as_str(), reply.locality.as_str()),
        ("hi", "east-1", "east")
    );
}

#[tokio::test]
async fn a_terminated_backend_lets_the_open_call_finish_and_exits_with_0() {
    let mut role = Role::backend(&["--name", "b"]);
    let mut client = EchoClient::connect(role.url()).await.unwrap();
    let (texts, requests) = mpsc::channel(1);
    let call = tokio::spawn({
        let mut client = client.clone();
        async move { client.collect(ReceiverStream::new(requests)).await }
    });
    // There is room for one: when the second is in, the first is on its way, and the call is open.
    for text in ["one", "two"] {
        texts.send(EchoRequest { text: text.into() }).await.unwrap();
    }
    // Answered on the same connection, so the call before it has arrived.
    client.say(EchoRequest::default()).await.unwrap();

    role.terminate();
    shared::poll::wait_until("the listener to close", common::OFTEN, LIMIT, async || {
        match tokio::net::TcpStream::connect(role.address).await {
            Err(_) => Ok(()),
            Ok(_) => Err("still open"),
        }
    })
    .await
    .unwrap();
    let text = "three".to_owned();
    texts.send(EchoRequest { text }).await.unwrap();
    drop(texts);

    let sum = call.await.unwrap().unwrap().into_inner();
    assert_eq!(sum.text, "one two three");
    assert_eq!(role.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_backend_exits_with_0_after_its_shutdown_delay() {
    let mut role = Role::backend(&["--name", "b", "--shutdown-delay", "700"]);
    let signalled = Instant::now();
    role.terminate();
    assert_eq!(role.ended().await.code(), Some(0));
    assert!(signalled.elapsed() >= Duration::from_millis(700), "{:?}", signalled.elapsed());
}

#[test]
fn a_port_in_use_is_reported_with_the_next_step_and_exit_code_2() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(BACKEND, &["--listen", &address]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr_text = stderr(&output);
    assert!(
        stderr_text.contains(&address)
            && stderr_text.contains("--listen")
            && stderr_text.contains("ss -ltnp"),
        "{stderr_text}"
    );
}

#[test]
fn wrong_flags_end_with_exit_code_2_and_a_hint() {
    for (program, args) in [
        (BACKEND, &["--listen", "nowhere"][..]),
        (BACKEND, &["--port", "1"]),
        (BACKEND, &["healthcheck"]),
        (BACKEND, &["--shutdown-delay", "60000"]),
        (CLIENT, &["--count", "0"]),
        (CLIENT, &["--rate", "-1"]),
        (CLIENT, &["--target", "127.0.0.1:14000"]),
        (CLIENT, &["--target", "https://127.0.0.1:14000"]),
        (CLIENT, &["--target", "xds:///"]),
        (CLIENT, &["--target", "xds:///echo", "--control-plane", "http://127.0.0.1:14002"]),
        (CLIENT, &["--target", "xds:///echo", "--control-plane", "127.0.0.1"]),
    ] {
        let output = run(program, args);
        assert_eq!(output.status.code(), Some(2), "{program} {args:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn help_shows_examples_and_the_variables() {
    for (program, expected) in [
        (BACKEND, ["LISTEN", "LOCALITY", "healthcheck", "Examples:"]),
        (CLIENT, ["TARGET", "COUNT", "RATE", "Examples:"]),
    ] {
        let help = String::from_utf8(run(program, &["--help"]).stdout).unwrap();
        for word in expected {
            assert!(help.contains(word), "{word} is not in {help}");
        }
    }
}

#[test]
fn flags_are_read_from_the_environment_too() {
    let output = command(CLIENT).env("TARGET", "http://127.0.0.1:9").env("COUNT", "3").output().unwrap();
    assert!(stderr(&output).contains("3 of 3 calls to http://127.0.0.1:9 failed"), "{output:?}");
}

#[test]
fn a_client_without_a_server_reports_the_address_and_exits_with_1() {
    // Bound but not listening: refuses, and no other test can get the port meanwhile.
    let unused_socket = TcpSocket::new_v4().unwrap();
    unused_socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let target = format!("http://{}", unused_socket.local_addr().unwrap());
    let output = run(CLIENT, &["--target", &target, "--count", "5"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr_text = stderr(&output);
    for expected in [&format!("5 of 5 calls to {target}") as &str, "refused", "Is Envoy up?"] {
        assert!(stderr_text.contains(expected), "{expected} is not in {stderr_text}");
    }
    // Where the admin interface of an Envoy on such a port is, nobody knows.
    assert!(!stderr_text.contains(&shared::ports::DEMO4_ADMIN.to_string()), "{stderr_text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_client_prints_the_calls_so_far() {
    let life = Lifecycle::default();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let backend = Backend::start("only", "", listener, &life);
    let target = format!("http://{}", backend.address());
    for rate in ["0", "500"] {
        let before = backend.calls();
        let args = ["--target", &target, "--count", "1000000", "--rate", rate, "--json"];
        let client =
            command(CLIENT).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        shared::poll::wait_until("calls", common::OFTEN, LIMIT, async || {
            let calls = backend.calls() - before;
            if calls >= 20 { Ok(()) } else { Err(format!("{calls} calls")) }
        })
        .await
        .unwrap();
        kill_process(Pid::from_child(&client), Signal::INT).unwrap();
        let output = tokio::task::spawn_blocking(|| client.wait_with_output()).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let seen = json["answered"]["only"].as_u64().unwrap();
        // Those on their way when it was told to stop may have no end to tell of.
        assert!((1..=backend.calls() - before).contains(&seen), "{json}");
        assert_eq!((&json["asked"], &json["calls"]), (&1_000_000.into(), &seen.into()), "{json}");
    }
    life.shut_down(LIMIT).await.unwrap();
}

#[test]
fn a_client_counts_replies_per_backend() {
    let role = Role::backend(&["--name", "only"]);
    let output = run(CLIENT, &["--target", &role.url(), "--count", "40", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["answered"]["only"], 40);
    assert_eq!(json["failed"], serde_json::json!({}));
    assert!(json["latency_ms"]["p99"].as_f64().unwrap() > 0.0);

    let output = run(CLIENT, &["--target", &role.url(), "--count", "20", "--rate", "200"]);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("only") && table.contains("100.0 %"), "{table}");
}

#[tokio::test]
async fn the_health_check_fails_if_no_backend_serves() {
    let mut role = Role::backend(&[]);
    let address = role.address.to_string();
    let check = run(BACKEND, &["healthcheck", "--listen", &address]);
    assert!(check.status.success(), "{check:?}");
    // As in a container: the server was told to listen everywhere.
    let everywhere = format!("0.0.0.0:{}", role.address.port());
    let check = command(BACKEND).arg("healthcheck").env("LISTEN", everywhere).output();
    assert!(check.unwrap().status.success());

    role.terminate();
    role.ended().await;
    let check = run(BACKEND, &["healthcheck", "--listen", &address]);
    assert_eq!(check.status.code(), Some(1));
    assert!(stderr(&check).contains(&address), "{check:?}");
}
