//! The demo as a user runs it: what it claims, how it ends, and that nothing is left behind.

#![allow(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::process::Command;

use mesh_testkit::demo::{self, Demo, text};
use mesh_testkit::{altered_envoy, lab_ports};
use rustix::process::Signal;
use shared::ports;

const DEMO: Demo = Demo::new(env!("CARGO_BIN_EXE_demo5-authz"));

/// What `--stay` listens on.
const LAB_PORTS: [u16; 6] = [
    ports::DEMO5_ENVOY,
    ports::DEMO5_ADMIN,
    ports::DEMO5_TLS,
    ports::DEMO5_AUTHZ,
    ports::DEMO5_METRICS,
    ports::DEMO5_BACKEND,
];

/// Every claim of the story, in order.
const CLAIMS: [&str; 58] = [
    "denied-no-token",
    "denied-malformed",
    "denied-expired",
    "denied-not-yet-valid",
    "denied-wrong-audience",
    "denied-wrong-issuer",
    "denied-wrong-signature",
    "denied-alg-none",
    "denied-alg-confusion",
    "denials-uniform",
    "valid-token",
    "reader-hello",
    "reader-delete",
    "admin-delete",
    "no-role",
    "stats-match",
    "route-without-ext-authz",
    "context-extensions",
    "path-confusion",
    "principal-header",
    "token-removed",
    "forged-principal",
    "forged-principal-no-authz",
    "token-kept-no-authz",
    "certificate-only",
    "certificate-denied",
    "no-credentials",
    "token-over-tls",
    "untrusted-ca",
    "foreign-trust-domain",
    "certificate-no-spiffe-id",
    "invalid-token-with-certificate",
    "invalid-policy",
    "policy-reload",
    "key-rotation",
    "body-off",
    "body-full",
    "body-too-large",
    "body-partial",
    "fail-closed-down",
    "fail-open-down",
    "fail-closed-black-hole",
    "fail-open-black-hole",
    "fail-closed-slow",
    "fail-open-slow",
    "fail-closed-crash",
    "fail-open-crash",
    "fail-closed-not-http2",
    "fail-open-not-http2",
    "fail-closed-invalid-message",
    "fail-open-invalid-message",
    "empty-response-allows",
    "errors-counted",
    "fail-open-headers",
    "drain-unhealthy-first",
    "drain-no-failure",
    "cost-latency",
    "log-no-token",
];

#[test]
fn every_claim_holds_and_stdout_is_one_json_report() {
    let output = DEMO.run(&["--json"]);
    let report = demo::report(&output, 0);
    assert_eq!(report["demo"], "demo5-authz");
    assert!(report["versions"]["envoy"].is_string(), "{report:#}");
    assert_eq!(report["steps"].as_array().unwrap().len(), 9);
    demo::assert_every_claim_holds(&report, &CLAIMS);
    // Anybody may see the output and the logs, so they must contain no secret.
    for secret in ["eyJ", "PRIVATE KEY"] {
        assert!(!text(&output.stdout).contains(secret) && !text(&output.stderr).contains(secret), "{secret}");
    }
}

#[test]
fn an_envoy_that_keeps_a_forged_principal_breaks_its_claim() {
    let folder = tempfile::tempdir().unwrap();
    let sed = r#"s/"remove":"x-auth-principal"/"remove":"x-another-header"/"#;
    let envoy = altered_envoy::edited(folder.path(), sed);
    let arguments = ["--step", "headers", "--envoy", envoy.to_str().unwrap()];
    let broken = ["forged-principal-no-authz"];
    assert_eq!(demo::broken_in_summary(&DEMO.run(&arguments)), broken);
    let report = demo::report(&DEMO.run(&[&arguments[..], &["--json"]].concat()), 1);
    demo::assert_broken(&report, &broken);
    assert_eq!(demo::ids_with(&report, "held").len(), 5, "{report:#}");
}

#[test]
fn the_text_output_has_numbered_steps_tables_and_a_summary() {
    let output = DEMO.run(&["--step", "rights"]);
    let printed = text(&output.stdout);
    for expected in ["\n1. ", "policies that decided", " verdict ", " claims held in "] {
        assert!(printed.contains(expected), "no '{expected}' in:\n{printed}");
    }
    assert!(!printed.contains('\u{1b}'), "colours although stdout is not a terminal");
}

#[test]
fn each_step_can_run_alone() {
    for step in ["headers", "certificates", "reloading", "bodies", "draining", "cost"] {
        let report = demo::report(&DEMO.run(&["--json", "--step", step]), 0);
        assert_eq!((&report["held"], report["steps"].as_array().unwrap().len()), (&true.into(), 1), "{step}");
    }
}

#[test]
fn an_unknown_step_and_an_invalid_envoy_are_exit_code_2() {
    for (args, expected) in
        [(["--step", "nowhere"], "failures"), (["--envoy", "/nowhere/envoy"], "/nowhere/envoy")]
    {
        let output = DEMO.run(&args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(expected), "{output:?}");
    }
}

#[test]
fn ctrl_c_and_a_kill_leave_no_process() {
    for (step, signal, code) in [("2. ", Signal::INT, Some(130)), ("1. ", Signal::KILL, None)] {
        let mut running = DEMO.start(&[]);
        running.read_until(step);
        running.wait_for_children(1);
        running.signal(signal);
        assert_eq!(running.finish().0, code, "{signal:?}");
    }
}

#[test]
fn stay_keeps_serving_on_the_lab_ports_and_its_commands_work() {
    let test = "stay_keeps_serving_on_the_lab_ports_and_its_commands_work";
    lab_ports::with_free(test, &LAB_PORTS, || {
        let mut running = DEMO.start(&["--stay", "--step", "headers"]);
        running.read_until("The policies are in");
        // Runs the commands that it prints, as a user would.
        let run = |words: &[&str]| {
            let matches =
                |line: &&str| words.iter().all(|word| line.contains(word)) && line.starts_with("  ");
            let line = running
                .printed()
                .lines()
                .find(matches)
                .unwrap_or_else(|| panic!("{words:?}: {}", running.printed()));
            text(&Command::new("sh").args(["-c", line]).output().unwrap().stdout)
        };
        let front = format!(":{}/", ports::DEMO5_ENVOY);
        assert!(run(&["curl", "reader.token", &front, "DELETE"]).starts_with("HTTP/1.1 403 "));
        assert!(run(&["curl", "admin.token", &front, "DELETE"]).starts_with("HTTP/1.1 200 "));
        assert!(run(&["curl", "/public"]).starts_with("HTTP/1.1 200 "));
        assert!(run(&["curl", "/metrics"]).contains("authz_denied_total{reason=\"not_permitted\"} 1"));
        let stats = run(&["curl", "filter=ext_authz"]);
        assert!(stats.contains("ext_authz.front.denied"), "{stats}");
        // The command that it prints runs the role by cargo; this is the same program.
        let file = running.printed().lines().find_map(|line| line.split("--token-file ").nth(1)).unwrap();
        let client = Command::new(env!("CARGO_BIN_EXE_demo5-client"))
            .args(["--token-file", file, "--json"])
            .output()
            .unwrap();
        assert_eq!(text(&client.stdout).lines().count(), 6, "{client:?}");
        running.signal(Signal::INT);
        assert_eq!(running.finish().0, Some(0));
    });
}

#[test]
fn stay_on_a_port_that_is_in_use_names_the_port_and_the_next_step() {
    lab_ports::assert_stay_names_a_port_in_use(DEMO, &LAB_PORTS);
}
