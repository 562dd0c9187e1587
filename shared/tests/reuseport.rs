//! The SO_REUSEPORT experiment: its story, its servers one by one, and its containers.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use mesh_testkit::compose::Plan;
use mesh_testkit::demo;
use mesh_testkit::processes::wait_until_ended;
#[cfg(target_os = "linux")]
use rustix::pipe::PipeFlags;
use serde_json::Value;
use shared::child::{self, Running};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::ports;
use shared::reuseport::{BALANCES_CONNECTIONS, request_instance};
use shared::stats::Shares;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_reuseport");
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// Every claim of the story, in order, and whether it needs root.
const CLAIMS: [(&str, bool); 13] = [
    ("both-listen", false),
    ("two", false),
    ("without", false),
    ("first-alone", false),
    ("kept", false),
    ("joins", false),
    ("old-stays", false),
    ("leaves", false),
    ("queue-lost", false),
    ("queue-moved", true),
    ("accepted-lost", true),
    ("stranger", true),
    ("listeners", false),
];

async fn report() -> Value {
    let mut command = Command::new(PROGRAM);
    command.arg("--json");
    let output = child::output(command, RESPONSE_TIMEOUT).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn every_claim_holds_and_only_what_takes_root_may_be_left_unchecked() {
    let report = report().await;
    assert_eq!((&report["demo"], &report["held"]), (&"reuseport".into(), &true.into()));
    assert_eq!(demo::ids(&report), CLAIMS.map(|(id, _)| id));
    demo::assert_well_formed(&report);
    let needs_root = |id: &&str| CLAIMS.contains(&(*id, true));
    assert!(demo::ids_with(&report, "not checked").iter().all(needs_root), "{report:#}");
    assert_eq!(demo::ids_with(&report, "broken"), [""; 0], "{report:#}");
}

/// A stdout on which a program is never more than one line ahead of its reader: a pipe with room for one packet, and
/// each line is one (`O_DIRECT`, see pipe(2)).
#[cfg(target_os = "linux")]
fn one_line_at_a_time() -> (std::fs::File, Stdio) {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::DIRECT | PipeFlags::CLOEXEC).unwrap();
    // Rounded up to one page, and each packet takes a page.
    rustix::pipe::fcntl_setpipe_size(&writer, 1).unwrap();
    (reader.into(), writer.into())
}

#[test]
#[cfg(target_os = "linux")]
fn an_unexpected_server_breaks_the_claims_about_shares() {
    let (reader, stdout) = one_line_at_a_time();
    let child = std::process::Command::new(PROGRAM).stdin(Stdio::null()).stdout(stdout).spawn().unwrap();
    let mut lines = std::io::BufReader::new(reader).lines().map(Result::unwrap);
    let both_listen = "   held: A second process can have the port too (127.0.0.1:";
    let port = lines.find_map(|line| Some(line.strip_prefix(both_listen)?.trim_end_matches(')').to_owned()));
    let port = port.expect("the port that both servers listen on");
    // The story waits for us to read on, so the third server is there for all that follows.
    let mut intruder = std::process::Command::new(PROGRAM)
        .args(["serve", "--instance", "intruder", "--port", &port])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(intruder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("intruder listens on"), "{line}");
    let stdout = lines.collect::<Vec<_>>().join("\n").into_bytes();
    intruder.kill().unwrap();
    intruder.wait().unwrap();
    let output = Output { stdout, ..child.wait_with_output().unwrap() };
    let broken = demo::broken_in_summary(&output);
    // The first 300 connections may have come before it was there.
    let later = broken.strip_prefix(&["two".to_owned()]).unwrap_or(&broken);
    assert_eq!(later, ["joins", "leaves"]);
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_sees_queues_move_and_strangers_refused() {
    let report = report().await;
    demo::assert_every_claim_holds(&report, &CLAIMS.map(|(id, _)| id));
}

/// A server by these variables, and where it listens.
async fn serve(name: &str, address: SocketAddr, life: &Lifecycle) -> (Running, SocketAddr) {
    let mut command = Command::new(PROGRAM);
    command.arg("serve").env("INSTANCE", name).env("HOST", address.ip().to_string());
    command.env("PORT", address.port().to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running::start(command, life, ()).await.unwrap();
    let line = BufReader::new(running.stdout().unwrap()).lines().next_line().await.unwrap().unwrap();
    let address = line.strip_prefix(&format!("{name} listens on ")).unwrap().parse().unwrap();
    (running, address)
}

#[tokio::test]
async fn servers_take_their_place_from_the_environment_answer_by_name_and_stop_when_told() {
    let life = Lifecycle::default();
    let (first, address) = serve("foo", (Ipv4Addr::LOCALHOST, 0).into(), &life).await;
    assert_eq!(request_instance(address).await.unwrap(), "foo");
    let (second, joined) = serve("bar", address, &life).await;
    assert_eq!(joined, address);
    // The remaining server gets every connection.
    assert_eq!(first.stop().await.unwrap().code(), Some(0));
    wait_until_ended(first.pid()).await;
    for _ in 0..20 {
        assert_eq!(request_instance(address).await.unwrap(), "bar");
    }
    life.shut_down(GRACE).await.unwrap();
    wait_until_ended(second.pid()).await;
    request_instance(address).await.unwrap_err();
}

#[tokio::test]
async fn a_taken_port_is_told_in_words_with_exit_code_2() {
    let life = Lifecycle::default();
    let (_first, address) = serve("foo", (Ipv4Addr::LOCALHOST, 0).into(), &life).await;
    let mut command = Command::new(PROGRAM);
    let port = address.port().to_string();
    command.args(["serve", "--instance", "bar", "--port", &port, "--alone"]);
    let output = child::output(command, RESPONSE_TIMEOUT).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in ["EADDRINUSE", "SO_REUSEPORT", &address.to_string(), "--port"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
}

fn plan() -> Plan {
    Plan {
        file: Path::new(env!("CARGO_MANIFEST_DIR")).join("compose.yaml"),
        programs: vec![PROGRAM.into()],
        ports: vec!["REUSEPORT_PORT".into()],
    }
}

#[tokio::test]
#[ignore = "needs docker"]
async fn requests_to_one_published_port_are_shared_by_two_containers_also_when_one_was_away() {
    let stack = plan().up().await.unwrap();
    let address = (Ipv4Addr::LOCALHOST, stack.port("REUSEPORT_PORT")).into();
    let shares = async || {
        let mut shares = Shares::default();
        for _ in 0..300 {
            shares.count(&request_instance(address).await.unwrap());
        }
        shares
    };
    let seen = shares().await;
    assert!(BALANCES_CONNECTIONS && seen.fit_evenly(["foo", "bar"]).holds(), "{seen}");

    // One is killed: the port stays, and the other one answers. It returns: both answer again.
    let bar = stack.containers("bar").await.unwrap().remove(0);
    stack.kill(&bar).await.unwrap();
    let seen = shares().await;
    assert_eq!(seen.of("foo"), 300, "{seen}");
    stack.run(&["up", "--detach", "--no-build", "--no-recreate", "--wait", "bar"]).await.unwrap();
    let seen = shares().await;
    assert!(seen.fit_evenly(["foo", "bar"]).holds(), "{seen}");
    assert_eq!(stack.down().await.unwrap(), []);
}

#[test]
fn the_compose_file_is_locked_up_shares_one_network_and_one_user_and_publishes_on_loopback_only() {
    let text = std::fs::read_to_string(plan().file).unwrap();
    let compose: Value = serde_saphyr::from_str(&text).unwrap();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>().len(), 3);
    for (name, service) in services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"][0], "ALL", "{name}");
        assert_eq!(service["security_opt"][0], "no-new-privileges:true", "{name}");
        assert_eq!(service["user"], "65534:65534", "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_u64(), "{name}");
        if name == "sandbox" {
            let published = format!("127.0.0.1:${{REUSEPORT_PORT:-{}}}:8080", ports::REUSEPORT);
            assert_eq!(service["ports"], serde_json::json!([published]));
        } else {
            assert_eq!(service["network_mode"], "service:sandbox", "{name}");
            assert!(service.get("ports").is_none(), "{name}");
        }
    }
}
