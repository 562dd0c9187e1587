//! The demo as a user runs it: what it claims, how it ends, and that nothing is left behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shared::ports;

/// Only one run at a time may have the lab ports.
static LAB_PORTS: Mutex<()> = Mutex::new(());

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo5-authz"));
    command
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn report(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}\n{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_claim_holds_and_json_is_all_there_is_on_stdout() {
    let output = demo(&["--json"]).output().unwrap();
    let report = report(&output);
    assert_eq!((&report["demo"], &report["held"]), (&"demo5-authz".into(), &true.into()));
    assert_eq!(report["steps"].as_array().unwrap().len(), 9);
    let claims = report["claims"].as_array().unwrap();
    assert!(claims.iter().all(|claim| claim["verdict"] == "held"), "{claims:#?}");
    let ids: BTreeSet<&str> = claims.iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), claims.len(), "an id stands for one claim");
    for id in [
        "refused-no-token",
        "refused-malformed",
        "refused-expired",
        "refused-wrong-audience",
        "refused-wrong-signature",
        "refused-alg-none",
        "refusals-leak-nothing",
        "reader-hello",
        "reader-delete",
        "admin-delete",
        "counts-agree",
        "route-without-ext-authz",
        "extensions-arrive",
        "path-tricks",
        "principal-arrives",
        "forged-principal",
        "token-is-removed",
        "certificate-is-enough",
        "foreign-authority",
        "bad-policy-is-told",
        "key-rotation",
        "body-off",
        "body-whole",
        "body-too-large",
        "body-partial",
        "closed-down",
        "closed-black-hole",
        "closed-slow",
        "closed-crash",
        "closed-noise",
        "closed-garbage",
        "open-down",
        "open-black-hole",
        "open-slow",
        "open-crash",
        "open-noise",
        "open-garbage",
        "empty-is-a-yes",
        "errors-are-counted",
        "open-door-headers",
        "health-is-heard",
        "drain-loses-no-call",
        "cost",
        "log-holds-no-token",
    ] {
        assert!(ids.contains(id), "no claim {id} in {ids:?}");
    }
    // What is told and logged on the way may be shown to anybody.
    for secret in ["eyJ", "PRIVATE KEY"] {
        assert!(!text(&output.stdout).contains(secret) && !text(&output.stderr).contains(secret), "{secret}");
    }
}

#[test]
fn people_get_numbered_steps_tables_and_a_summary() {
    let output = demo(&["--step", "rights"]).output().unwrap();
    let told = text(&output.stdout);
    for expected in ["\n1. ", "policies that decided", " verdict ", " claims held in "] {
        assert!(told.contains(expected), "no '{expected}' in:\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "colours though stdout is no terminal");
}

#[test]
fn any_step_can_be_told_alone() {
    for step in ["headers", "certificates", "reloading", "bodies", "draining", "cost"] {
        let report = report(&demo(&["--json", "--step", step]).output().unwrap());
        assert_eq!((&report["held"], report["steps"].as_array().unwrap().len()), (&true.into(), 1), "{step}");
    }
}

#[test]
fn an_unknown_step_and_a_wrong_envoy_are_exit_code_2() {
    for (args, expected) in
        [(["--step", "nowhere"], "failures"), (["--envoy", "/nowhere/envoy"], "/nowhere/envoy")]
    {
        let output = demo(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(expected), "{output:?}");
    }
}

/// A demo under way.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    told: String,
}

impl Running {
    /// Reads along until a line begins with this.
    fn until(args: &[&str], wanted: &str) -> Self {
        let mut child = demo(args).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut told = String::new();
        while !told.lines().any(|line| line.starts_with(wanted)) {
            assert!(stdout.read_line(&mut told).unwrap() > 0, "it ended early: {:?}:\n{told}", child.wait());
        }
        Self { child, stdout, told }
    }

    /// Signals it, waits for its end, and sees to it that its Envoy is gone too.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        let pid = self.child.id();
        let envoys: Vec<_> = children(pid).collect();
        assert_eq!(envoys.len(), 1, "{envoys:?}");
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        // Read on, so that a full pipe cannot hold it up.
        self.stdout.read_to_string(&mut self.told).unwrap();
        let code = self.child.wait().unwrap().code();
        let begun = std::time::Instant::now();
        while envoys.iter().any(|envoy| std::path::Path::new(&format!("/proc/{envoy}")).exists()) {
            assert!(begun.elapsed() < std::time::Duration::from_secs(30), "an Envoy is left");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        (code, self.told)
    }
}

/// The processes that this one has started.
fn children(parent: u32) -> impl Iterator<Item = u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(move |entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let of: u32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        (of == parent).then_some(pid)
    })
}

#[test]
fn ctrl_c_and_a_kill_leave_nothing_behind() {
    let (code, _) = Running::until(&[], "2. ").end(Signal::INT);
    assert_eq!(code, Some(130));
    let (code, _) = Running::until(&[], "1. ").end(Signal::KILL);
    assert_eq!(code, None);
}

#[test]
fn stay_keeps_everything_up_on_the_lab_ports_and_its_advice_works() {
    let _alone = LAB_PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let running = Running::until(&["--stay", "--step", "headers"], "The policies are in");
    // The commands that it prints, as a person would copy them.
    let run = |wanted: &[&str]| {
        let fits = |line: &&str| wanted.iter().all(|word| line.contains(word)) && line.starts_with("  ");
        let line = running.told.lines().find(fits).unwrap_or_else(|| panic!("{wanted:?}: {}", running.told));
        text(&Command::new("sh").args(["-c", line]).output().unwrap().stdout)
    };
    let front = format!(":{}/", ports::DEMO5_ENVOY);
    assert!(run(&["curl", "reader.token", &front, "DELETE"]).starts_with("HTTP/1.1 403 "));
    assert!(run(&["curl", "admin.token", &front, "DELETE"]).starts_with("HTTP/1.1 200 "));
    assert!(run(&["curl", "/public"]).starts_with("HTTP/1.1 200 "));
    assert!(run(&["curl", "/metrics"]).contains("authz_denied_total{reason=\"not_permitted\"} 1"));
    let stats = run(&["curl", "filter=ext_authz"]);
    assert!(stats.contains("ext_authz.front.denied"), "{stats}");
    // What it says instead of the role through cargo.
    let file = running.told.lines().find_map(|line| line.split("--token-file ").nth(1)).unwrap();
    let client = Command::new(env!("CARGO_BIN_EXE_demo5-client"))
        .args(["--token-file", file, "--json"])
        .output()
        .unwrap();
    assert_eq!(text(&client.stdout).lines().count(), 6, "{client:?}");
    let (code, _) = running.end(Signal::INT);
    assert_eq!(code, Some(0));
}

#[test]
fn stay_on_a_taken_port_says_which_and_what_to_do() {
    let _alone = LAB_PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let _taken = TcpListener::bind(("127.0.0.1", ports::DEMO5_ENVOY)).unwrap();
    let output = demo(&["--stay"]).output().unwrap();
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(
        complaint.contains(&ports::DEMO5_ENVOY.to_string()) && complaint.contains("is taken"),
        "{complaint}"
    );
}
