//! The demo as a user runs it: what it claims, how it ends, and that nothing is left behind.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use demo4_lb::plan::Plan;
use demo4_lb::scenario;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::ports;
use shared::report::{Output as Told, Story};

/// Far more than anything here needs, while other tests take both cores.
const LIMIT: Duration = Duration::from_secs(120);

/// Only one run at a time may have the lab ports.
static LAB_PORTS: Mutex<()> = Mutex::new(());

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo4-lb"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    demo(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A demo under way, whose Envoy we know.
struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    envoy: PathBuf,
}

/// Starts the demo and reads along until it has begun this step and started its Envoy.
fn until_step(args: &[&str], step: &str) -> Running {
    let mut child = demo(args).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    read_until(&mut stdout, step);
    let envoy = wait("the demo's Envoy", || {
        if let Some(status) = child.try_wait().unwrap() {
            let mut complaint = String::new();
            child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
            panic!("the demo ended early: {status}: {complaint}");
        }
        envoy_of(child.id())
    });
    Running { child, stdout, envoy }
}

fn read_until(stdout: &mut impl BufRead, wanted: &str) -> String {
    let mut line = String::new();
    while !line.starts_with(wanted) {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "stdout ended before '{wanted}'");
    }
    line
}

impl Running {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end, and for the end of its Envoy.
    fn end(mut self) -> ExitStatus {
        // Keep reading, so that a full pipe cannot hold it up.
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        wait("Envoy's end", || (!self.envoy.exists()).then_some(()));
        status
    }
}

/// The /proc folder of the Envoy that this process started.
fn envoy_of(parent: u32) -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.filter(|path| path.join("stat").exists()).find(|path| {
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        stat.contains("(envoy)") && fields.get(1) == Some(&parent.to_string().as_str())
    })
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn every_claim_holds_and_json_is_all_there_is_on_stdout() {
    let output = run(&["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(report["demo"], "demo4-lb");
    assert_eq!(report["held"], true);
    assert!(report["versions"]["envoy"].as_str().unwrap().starts_with("1."));
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 9);
    let seconds: f64 = steps.iter().map(|step| step["seconds"].as_f64().unwrap()).sum();
    assert!(seconds > 0.0);
    let claims = report["claims"].as_array().unwrap();
    let ids: BTreeSet<&str> = claims.iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), claims.len(), "an id stands for one claim");
    // One of each step, of each data plane.
    for id in [
        "plain-all-fail",
        "even-shares-envoy",
        "even-shares-proxyless",
        "locality-weights-envoy",
        "locality-weights-proxyless",
        "route-weights-envoy",
        "route-weights-proxyless",
        "spill-2-of-4",
        "spill-healed",
        "follow-0-of-4",
        "outlier-ejected",
        "outlier-proxyless",
        "holds-what-was-published",
        "accepted-what-was-published",
        "feedback-under-capacity",
        "feedback-converges",
        "feedback-reported",
        "rolling-no-failure-envoy",
        "rolling-no-failure-proxyless",
        "return-sends-difference",
        "begin-later-envoy",
        "begin-later-proxyless",
        "cost-no-failure",
        "cost-envoy",
        "cost-envoy-cpu",
    ] {
        assert!(ids.contains(id), "no claim {id} in {ids:?}");
    }
    assert!(claims.iter().all(|claim| claim["verdict"] == "held"), "{claims:#?}");
}

#[test]
fn people_get_numbered_steps_a_table_and_a_summary() {
    let output = run(&["--step", "plain"]);
    let told = text(&output.stdout);
    for expected in ["\n1. ", " verdict ", "2 of 2 claims held in "] {
        assert!(told.contains(expected), "no '{expected}' in:\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "colours though stdout is no terminal");
}

#[test]
fn ctrl_c_in_the_first_step_leaves_nothing_behind() {
    let running = until_step(&["--step", "priorities"], "1. ");
    running.signal(Signal::INT);
    assert_eq!(running.end().code(), Some(130));
}

#[test]
fn ctrl_c_while_calls_run_leaves_nothing_behind() {
    let running = until_step(&["--step", "rolling"], "1. ");
    running.signal(Signal::INT);
    assert_eq!(running.end().code(), Some(130));
}

#[test]
fn a_terminated_demo_leaves_nothing_behind() {
    let running = until_step(&[], "2. ");
    running.signal(Signal::TERM);
    assert_eq!(running.end().code(), Some(143));
}

#[test]
fn a_killed_demo_takes_its_envoy_along() {
    let running = until_step(&[], "2. ");
    running.signal(Signal::KILL);
    assert_eq!(running.end().code(), None);
}

#[test]
fn stay_keeps_the_mesh_up_until_ctrl_c() {
    let _alone = LAB_PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut running = until_step(&["--stay", "--step", "calls"], "1. ");
    read_until(&mut running.stdout, "Everything stays up");
    // Who wants to ask a backend is told where they are; this one answers there.
    let probe = "  grpc_health_probe -addr ";
    let line = read_until(&mut running.stdout, probe);
    let backend = line.trim_start_matches(probe).trim();
    let asked = Command::new(env!("CARGO_BIN_EXE_demo4-backend"))
        .args(["healthcheck", "--listen", backend])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{line}: {}", text(&asked.stderr));
    let client = Command::new(env!("CARGO_BIN_EXE_demo4-client"))
        .args(["--target", &format!("http://127.0.0.1:{}", ports::DEMO4_ENVOY), "--count", "20"])
        .output()
        .unwrap();
    assert!(client.status.success(), "{}", text(&client.stderr));
    let client = Command::new(env!("CARGO_BIN_EXE_demo4-client"))
        .args(["--target", "xds:///echo", "--control-plane", &format!("127.0.0.1:{}", ports::DEMO4_XDS)])
        .args(["--count", "30", "--json"])
        .output()
        .unwrap();
    assert!(client.status.success(), "{}", text(&client.stderr));
    let seen: Value = serde_json::from_slice(&client.stdout).unwrap();
    assert_eq!(seen["answered"].as_object().unwrap().len(), 3, "{seen}");
    running.signal(Signal::INT);
    assert_eq!(running.end().code(), Some(0));
}

#[test]
fn any_step_can_be_told_alone() {
    for step in ["cost", "outlier", "restart", "rolling", "localities"] {
        let output = run(&["--json", "--step", step]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["held"], true, "{step}: {report:#}\n{}", text(&output.stderr));
        assert_eq!(report["steps"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn without_envoy_the_proxyless_client_tells_its_part_and_the_rest_is_not_checked() {
    // There is no Envoy to be had, and none is asked for.
    let output =
        demo(&["--json", "--data-plane", "proxyless"]).env("ENVOY", "/nowhere/envoy").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report:#}\n{}", text(&output.stderr));
    let claims = report["claims"].as_array().unwrap();
    let unchecked: Vec<_> = claims.iter().filter(|claim| claim["verdict"] == "not checked").collect();
    let ids: Vec<_> = unchecked.iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["feedback", "cost-envoy", "cost-envoy-cpu"], "{unchecked:?}");
    assert!(unchecked.iter().all(|claim| claim["why"].as_str().unwrap().contains("--data-plane")));
    let checked = claims.iter().filter(|claim| claim["verdict"] == "held");
    assert!({ checked }.all(|claim| !claim["id"].as_str().unwrap().ends_with("-envoy")));
    assert_eq!(report["versions"], serde_json::json!({}));
}

#[test]
fn an_unknown_step_is_answered_with_the_known_ones() {
    let output = run(&["--step", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = text(&output.stderr);
    for step in ["plain", "feedback", "cost"] {
        assert!(complaint.contains(step), "{complaint}");
    }
}

#[test]
fn stay_on_a_taken_port_says_which_and_what_to_do() {
    let _alone = LAB_PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let _taken = TcpListener::bind(("127.0.0.1", ports::DEMO4_ENVOY)).unwrap();
    let output = run(&["--stay"]);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(complaint.contains(&ports::DEMO4_ENVOY.to_string()), "{complaint}");
    assert!(complaint.contains("is taken"), "{complaint}");
}

/// A program that answers `--version` as Envoy does, and then does as `body` says.
fn pretender(folder: &Path, body: &str) -> PathBuf {
    let path = folder.join("envoy");
    let version = "envoy  version: 0/1.40.0/Clean/RELEASE/BoringSSL";
    let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && {{ echo '{version}'; exit 0; }}\n{body}\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_wrong_envoy_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    let cases =
        [("/nowhere/envoy", "/nowhere/envoy"), (plain.to_str().unwrap(), "chmod"), ("/bin/true", "Envoy")];
    for (envoy, expected) in cases {
        let output = demo(&["--json"]).env("ENVOY", envoy).output().unwrap();
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{envoy}: {complaint}");
        assert!(complaint.contains(expected), "{envoy}: {complaint}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["held"], false);
        assert!(!report["error"].as_str().unwrap().is_empty());
    }
}

#[test]
fn an_envoy_of_no_name_is_no_choice() {
    let output =
        demo(&["--json", "--step", "calls", "--data-plane", "envoy"]).env("ENVOY", "").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn an_unknown_flag_is_wrong_usage() {
    let output = run(&["--no-such-flag"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--help"));
}

#[test]
fn an_envoy_that_exits_early_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let envoy = pretender(folder.path(), "echo 'no room in this mesh' >&2; exit 7");
    let output = run(&["--envoy", envoy.to_str().unwrap()]);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("no room in this mesh"), "{complaint}");
}

#[tokio::test]
async fn an_envoy_that_never_gets_ready_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let envoy = pretender(folder.path(), "exec sleep 600");
    let plan = Plan { envoy: Some(envoy), ready_limit: Duration::from_millis(300), ..Plan::default() };
    let (mut story, life) = (Story::new("demo4-lb", "", Told::Silent), Lifecycle::default());
    let error = scenario::run(&plan, &mut story, &life).await.err().unwrap();
    assert!(format!("{error:#}").contains("ready"), "{error:#}");
    // Its end belongs to the lifecycle's.
    life.shut_down(GRACE).await.unwrap();
}
