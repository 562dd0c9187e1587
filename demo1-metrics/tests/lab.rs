//! The exercises, proven; and what the `lab` command says to those who lack something, or made a mistake in writing.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use demo1_metrics::lab::lab;
use mesh_lab::{SeededRng, Tools};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::tools;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn every_solution_passes_and_every_start_and_wrong_solution_fails_for_its_own_reason() {
    let (seed, life) = (SeededRng::seed(), Lifecycle::default());
    let proofs = lab().verify(None, seed, &Tools::default(), &life, |_| ()).await.unwrap();
    life.shut_down(GRACE).await.unwrap();
    let unheld: Vec<_> = proofs.iter().filter(|proof| !proof.held).collect();
    assert!(unheld.is_empty(), "with seed {seed}: {unheld:#?}");
}

fn command(work: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo1-metrics"));
    command.arg("lab").args(args).env("LAB_WORK", work);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A student's desk with one file on it.
fn desk(exercise: &str, file: &str, text: &str) -> tempfile::TempDir {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join(exercise);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(file), text).unwrap();
    work
}

#[test]
#[ignore = "needs prometheus"]
fn what_prometheus_refuses_is_told_with_its_words_and_place() {
    let told = |exercise: &str, file: &str, text: &str, number: &str| {
        let work = desk(exercise, file, text);
        let output = command(work.path(), &[number]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let refused = told("01-ratio", "ratio.promql", "sum(\n  rate(x)", "1");
    assert!(refused.contains("Prometheus refuses ratio.promql"), "{refused}");
    assert!(refused.contains(": 3:1: ") && refused.contains("parse error"), "{refused}");
    let scalar = told("01-ratio", "ratio.promql", "1 + 1", "1");
    assert!(scalar.contains("it gives a scalar, and no series"), "{scalar}");
    let rules = "groups:\n- name: x\n  rules:\n  - alert: A\n    expr: sum(\n";
    let refused = told("04-alert", "rules.yaml", rules, "4");
    assert!(refused.contains("Prometheus refuses rules.yaml: 5:"), "{refused}");
    assert!(refused.contains("unclosed left parenthesis"), "{refused}");
}

#[tokio::test]
async fn without_a_prometheus_an_exercise_that_asks_one_is_not_checked_and_never_solved() {
    let envoy = tools::envoy(std::env::var_os("ENVOY").as_deref().map(Path::new)).await.unwrap();
    let solution = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/01-ratio/solution/ratio.promql");
    let work = desk("01-ratio", "ratio.promql", &fs::read_to_string(solution).unwrap());
    let nothing = tempfile::tempdir().unwrap();
    let mut command = command(work.path(), &["1", "--envoy"]);
    command.arg(envoy.path).env("PATH", nothing.path()).env("MESH_TOOLS", nothing.path());
    let output = command.env_remove("PROMETHEUS").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("asks a Prometheus, and none was found"), "{}", said(&output));
    assert!(!said(&output).contains("is solved"), "{}", said(&output));
}

#[test]
fn statistics_under_a_budget_need_an_envoy_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/03-budget");
    for (files, code) in [("solution", 0), ("start", 1)] {
        let text = fs::read_to_string(folder.join(files).join("envoy.yaml")).unwrap();
        let work = desk("03-budget", "envoy.yaml", &text);
        let output = command(work.path(), &["3"]).env("PROMETHEUS", "/nowhere").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{files}: {}", said(&output));
    }
}
