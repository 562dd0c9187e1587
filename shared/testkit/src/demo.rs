//! A demo's command as a user runs it: its report, its exit code, and what it leaves behind.
//!
//! ```text
//! Demo ──run()────> Output ──report(output, exit code)──> JSON ──> assert_every_claim_holds(), assert_broken()
//!   └──start()──> Running ──read_until(), signal()──> finish() ──> exit code, and no process of it is left
//! ```

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "in a test a panic is a finding")]

mod running;

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub use running::Running;

/// A demo's program: `Demo::new(env!("CARGO_BIN_EXE_demo4-lb"))`.
#[derive(Clone, Copy, Debug)]
pub struct Demo(&'static str);

impl Demo {
    /// The program at this path.
    pub const fn new(program: &'static str) -> Self {
        Self(program)
    }

    /// Returns a command with these arguments, no standard input, and no log filter from the environment.
    pub fn command(self, args: &[&str]) -> Command {
        let mut command = Command::new(self.0);
        command.args(args).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Runs it to its end and captures its output.
    pub fn run(self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts it, so that a test can read what it prints and send signals to it.
    pub fn start(self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }
}

/// Returns output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Parses the report of a run with `--json`, and asserts that the run ended with this exit code.
///
/// Stdout must contain the report and nothing else.
pub fn report(output: &Output, exit_code: i32) -> Value {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(exit_code), "{stdout}\n{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in:\n{stdout}"))
}

/// Returns the report's claims.
pub fn claims(report: &Value) -> &[Value] {
    report["claims"].as_array().unwrap()
}

/// Returns the ids of all claims, in the order in which they were made.
pub fn ids(report: &Value) -> Vec<&str> {
    claims(report).iter().map(|claim| claim["id"].as_str().unwrap()).collect()
}

/// Returns the ids of the claims with this verdict: `held`, `broken` or `not checked`.
pub fn ids_with<'a>(report: &'a Value, verdict: &str) -> Vec<&'a str> {
    let matching = claims(report).iter().filter(|claim| claim["verdict"] == verdict);
    matching.map(|claim| claim["id"].as_str().unwrap()).collect()
}

/// Asserts that the run made exactly these claims, in this order, and measured each of them.
pub fn assert_every_claim_holds(report: &Value, expected_ids: &[&str]) {
    assert_eq!(ids(report), expected_ids);
    assert_eq!(ids_with(report, "held"), expected_ids, "{report:#}");
    assert_eq!(report["held"], true, "{report:#}");
    assert!(report.get("error").is_none(), "{report:#}");
    assert_well_formed(report);
}

/// Asserts facts that do not depend on the run's own verdict.
///
/// Every id occurs once; each claim states what was expected and what was seen, or why it was not checked; every step
/// has a title; every program that took part has a version.
pub fn assert_well_formed(report: &Value) {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    let mut ids = BTreeSet::new();
    for claim in claims(report) {
        assert!(ids.insert(claim["id"].as_str().unwrap()), "an id occurs twice: {claim}");
        assert!(is_text(&claim["id"]) && is_text(&claim["claim"]) && is_text(&claim["expected"]), "{claim}");
        let evidence = if claim["verdict"] == "not checked" { &claim["why"] } else { &claim["seen"] };
        assert!(is_text(evidence), "no evidence: {claim}");
    }
    for step in report["steps"].as_array().unwrap() {
        assert!(is_text(&step["step"]) && step["seconds"].as_f64().unwrap() >= 0.0, "{step}");
    }
    for (program, version) in report["versions"].as_object().unwrap() {
        let first = version.as_str().unwrap().chars().next();
        assert!(first.is_some_and(|first| first.is_ascii_digit()), "{program} {version}");
    }
}

/// Asserts that a run with `--json` reported these claims as broken, and only these.
pub fn assert_broken(report: &Value, broken: &[&str]) {
    assert_eq!(ids_with(report, "broken"), broken, "{report:#}");
    assert_eq!(report["held"], false);
    // The run itself came to its end: a broken claim is a result, not an error.
    assert!(report.get("error").is_none(), "{report:#}");
    assert_well_formed(report);
}

/// Returns the ids that the last line of a run for people names as broken. Asserts that the run ended with exit
/// code 1, and that each broken claim was reported where it was measured and again in the table.
pub fn broken_in_summary(output: &Output) -> Vec<String> {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stdout}\n{stderr}");
    let summary = stdout.lines().last().unwrap_or_default();
    let (_, named) = summary
        .split_once("; broken: ")
        .unwrap_or_else(|| panic!("no broken claim in '{summary}':\n{stdout}"));
    let broken: Vec<String> = named.split(", ").map(str::to_owned).collect();
    let lines = |is: &dyn Fn(&str) -> bool| stdout.lines().filter(|line| is(line)).count();
    assert_eq!(lines(&|line| line.starts_with("   BROKEN: ")), broken.len(), "{stdout}");
    assert_eq!(lines(&|line| line.trim_end().ends_with(" BROKEN")), broken.len(), "{stdout}");
    broken
}
