//! The SO_REUSEPORT experiment: its story, its servers one by one, and its containers.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use mesh_testkit::compose::Plan;
use mesh_testkit::processes::wait_until_ended;
use serde_json::Value;
use shared::child::{self, Running};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::ports;
use shared::reuseport::{SPREADS, ask};
use shared::stats::Shares;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_reuseport");
const LIMIT: Duration = Duration::from_secs(120);

/// What takes root; the rest of the story does not.
const ROOTS: [&str; 3] = ["queue-moved", "accepted-lost", "stranger"];

async fn report() -> Value {
    let mut command = Command::new(PROGRAM);
    command.arg("--json");
    let output = child::output(command, LIMIT).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The ids of all claims with this verdict.
fn with_verdict<'a>(report: &'a Value, verdict: &str) -> Vec<&'a str> {
    let claims = report["claims"].as_array().unwrap().iter().filter(|claim| claim["verdict"] == verdict);
    claims.map(|claim| claim["id"].as_str().unwrap()).collect()
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn every_claim_holds_and_only_what_takes_root_may_be_left_unchecked() {
    let report = report().await;
    let unchecked = with_verdict(&report, "not checked");
    assert!(unchecked.iter().all(|id| ROOTS.contains(id)), "{unchecked:?}");
    assert_eq!(with_verdict(&report, "held").len() + unchecked.len(), 13, "{report:#}");
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_sees_queues_move_and_strangers_refused() {
    let report = report().await;
    assert_eq!(with_verdict(&report, "not checked"), [""; 0], "{report:#}");
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
    assert_eq!(ask(address).await.unwrap(), "foo");
    let (second, joined) = serve("bar", address, &life).await;
    assert_eq!(joined, address);
    // Wherever connections go, whoever is left gets them all.
    assert_eq!(first.stop().await.unwrap().code(), Some(0));
    wait_until_ended(first.pid()).await;
    for _ in 0..20 {
        assert_eq!(ask(address).await.unwrap(), "bar");
    }
    life.shut_down(GRACE).await.unwrap();
    wait_until_ended(second.pid()).await;
    ask(address).await.unwrap_err();
}

#[tokio::test]
async fn a_taken_port_is_told_in_words_with_exit_code_2() {
    let life = Lifecycle::default();
    let (_first, address) = serve("foo", (Ipv4Addr::LOCALHOST, 0).into(), &life).await;
    let mut command = Command::new(PROGRAM);
    let port = address.port().to_string();
    command.args(["serve", "--instance", "bar", "--port", &port, "--alone"]);
    let output = child::output(command, LIMIT).await.unwrap();
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
            shares.count(&ask(address).await.unwrap());
        }
        shares
    };
    let seen = shares().await;
    assert!(SPREADS && seen.fit_evenly(["foo", "bar"]).holds(), "{seen}");

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
