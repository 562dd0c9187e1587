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
    "refused-no-token",
    "refused-malformed",
    "refused-expired",
    "refused-not-yet",
    "refused-wrong-audience",
    "refused-wrong-issuer",
    "refused-wrong-signature",
    "refused-alg-none",
    "refused-alg-confused",
    "refusals-leak-nothing",
    "valid-token",
    "reader-hello",
    "reader-delete",
    "admin-delete",
    "no-role",
    "counts-agree",
    "route-without-ext-authz",
    "extensions-arrive",
    "path-tricks",
    "principal-arrives",
    "token-is-removed",
    "forged-principal",
    "forged-principal-unasked",
    "token-stays-unasked",
    "certificate-is-enough",
    "certificate-of-another",
    "no-certificate",
    "token-over-tls",
    "foreign-authority",
    "foreign-trust-domain",
    "certificate-without-id",
    "bad-token-good-certificate",
    "bad-policy-is-told",
    "policy-change",
    "key-rotation",
    "body-off",
    "body-whole",
    "body-too-large",
    "body-partial",
    "closed-down",
    "open-down",
    "closed-black-hole",
    "open-black-hole",
    "closed-slow",
    "open-slow",
    "closed-crash",
    "open-crash",
    "closed-noise",
    "open-noise",
    "closed-garbage",
    "open-garbage",
    "empty-is-a-yes",
    "errors-are-counted",
    "open-door-headers",
    "health-is-heard",
    "drain-loses-no-call",
    "cost",
    "log-holds-no-token",
];

#[test]
fn every_claim_holds_and_json_is_all_there_is_on_stdout() {
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
fn an_envoy_that_lets_a_forged_name_through_breaks_the_claim_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let sed = r#"s/"remove":"x-auth-principal"/"remove":"x-another-header"/"#;
    let envoy = altered_envoy::edited(folder.path(), sed);
    let arguments = ["--step", "headers", "--envoy", envoy.to_str().unwrap()];
    let broken = ["forged-principal-unasked"];
    assert_eq!(demo::broken_in_summary(&DEMO.run(&arguments)), broken);
    let report = demo::report(&DEMO.run(&[&arguments[..], &["--json"]].concat()), 1);
    demo::assert_broken(&report, &broken);
    assert_eq!(demo::ids_with(&report, "held").len(), 5, "{report:#}");
}

#[test]
fn people_get_numbered_steps_tables_and_a_summary() {
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
fn an_unknown_step_and_a_wrong_envoy_are_exit_code_2() {
    for (args, expected) in
        [(["--step", "nowhere"], "failures"), (["--envoy", "/nowhere/envoy"], "/nowhere/envoy")]
    {
        let output = DEMO.run(&args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(expected), "{output:?}");
    }
}

#[test]
fn ctrl_c_and_a_kill_leave_nothing_behind() {
    for (step, signal, code) in [("2. ", Signal::INT, Some(130)), ("1. ", Signal::KILL, None)] {
        let mut running = DEMO.start(&[]);
        running.read_until(step);
        running.wait_for_children(1);
        running.signal(signal);
        assert_eq!(running.finish().0, code, "{signal:?}");
    }
}

#[test]
fn stay_keeps_everything_up_on_the_lab_ports_and_its_advice_works() {
    let test = "stay_keeps_everything_up_on_the_lab_ports_and_its_advice_works";
    lab_ports::with_free(test, &LAB_PORTS, || {
        let mut running = DEMO.start(&["--stay", "--step", "headers"]);
        running.read_until("The policies are in");
        // Runs the commands that it prints, as a user would.
        let run = |wanted: &[&str]| {
            let fits = |line: &&str| wanted.iter().all(|word| line.contains(word)) && line.starts_with("  ");
            let line = running
                .printed()
                .lines()
                .find(fits)
                .unwrap_or_else(|| panic!("{wanted:?}: {}", running.printed()));
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
