//! The exercises, proven; and the `lab` command as a student, a teacher and a grader use it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use demo4_lb::lab::lab;
use mesh_lab::{SeededRng, Tools};
use serde_json::Value;
use shared::lifecycle::Lifecycle;

#[tokio::test(flavor = "multi_thread")]
async fn solutions_pass_and_start_and_wrong_solutions_fail_with_the_expected_message() {
    let (seed, life) = (SeededRng::seed(), Lifecycle::default());
    let proofs = lab().verify(None, seed, &Tools::default(), &life, |_| ()).await.unwrap();
    let failed: Vec<_> = proofs.iter().filter(|proof| !proof.held).collect();
    assert!(failed.is_empty(), "with seed {seed}: {failed:#?}");
}

fn run(work: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo4-lb"));
    command.arg("lab").args(args).env("LAB_WORK", work).output().unwrap()
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn solution(exercise: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab").join(exercise);
    fs::read(folder.join("solution/envoy.yaml")).unwrap()
}

#[test]
fn a_student_gets_files_a_verdict_hints_and_a_warning_about_regressions() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    let list = run(work, &[]);
    assert_eq!(list.status.code(), Some(0));
    assert!(output_text(&list).contains("not begun"), "{}", output_text(&list));

    let file = work.join("01-localities/envoy.yaml");
    let first = run(work, &["1", "--seed", "4711"]);
    assert_eq!(first.status.code(), Some(1), "{}", output_text(&first));
    let printed = output_text(&first);
    assert!(printed.contains("# Three regions get 70, 20 and 10 %"), "{printed}");
    assert!(
        printed.contains("with seed 4711") && printed.contains("20 % of 800 calls went to east"),
        "{printed}"
    );

    fs::write(&file, solution("01-localities")).unwrap();
    let second = run(work, &["1"]);
    assert_eq!(second.status.code(), Some(0), "{}", output_text(&second));
    assert_eq!(fs::read(&file).unwrap(), solution("01-localities"));
    assert!(output_text(&run(work, &[])).contains("solved"));

    let hints: Vec<_> = (0..4).map(|_| output_text(&run(work, &["1", "--hint"]))).collect();
    assert!(hints[0].starts_with("Hint 1 of 3") && hints[2].starts_with("Hint 3 of 3"), "{hints:?}");
    assert_eq!(hints[2], hints[3]);

    fs::write(&file, "static_resources: {").unwrap();
    let third = run(work, &["2"]);
    assert_eq!(third.status.code(), Some(1));
    let printed = output_text(&third);
    assert!(printed.contains("Exercise 1 broke, which you had solved"), "{printed}");
    assert!(printed.contains("envoy.yaml is YAML"), "{printed}");
    assert_eq!(fs::read(&file).unwrap(), b"static_resources: {");
}

#[test]
fn watch_mode_checks_after_each_save_and_ends_when_solved() {
    let work = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo4-lb"));
    command.args(["lab", "1", "--watch"]).env("LAB_WORK", work.path()).stdout(Stdio::piped());
    let mut watching = command.spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    // Its end, too, ends the loop: then the assertions say what is wrong.
    assert!(lines.any(|line| line.unwrap().starts_with("Waiting for you to save")));
    fs::write(work.path().join("01-localities/envoy.yaml"), solution("01-localities")).unwrap();
    assert!(lines.any(|line| line.unwrap().starts_with("Exercise 1 is solved")));
    assert_eq!(watching.wait().unwrap().code(), Some(0));
}

#[test]
fn json_output_and_exit_code_report_the_grade() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("01-localities");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("envoy.yaml"), solution("01-localities")).unwrap();
    let one = run(work.path(), &["1", "--json"]);
    let grade: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!((one.status.code(), &grade["solved"]), (Some(0), &Value::Bool(true)), "{grade:#}");

    let all = run(work.path(), &["--json"]);
    let grade: Value = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!((all.status.code(), &grade["solved"]), (Some(1), &Value::Bool(false)), "{grade:#}");
    assert_eq!(grade["exercises"][0]["solved"], true, "{grade:#}");
    assert_eq!(grade["exercises"][1]["state"], "not begun", "{grade:#}");
    assert!(!work.path().join("02-failover").exists());
}

#[test]
fn unknown_exercises_and_flags_are_wrong_usage() {
    let work = tempfile::tempdir().unwrap();
    for args in [&["99"][..], &["0"], &["--hint"], &["verify", "99"], &["1", "--watch", "--json"]] {
        let output = run(work.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", output_text(&output));
    }
    let no_envoy = run(work.path(), &["1", "--envoy", "/nowhere/envoy"]);
    assert_eq!(no_envoy.status.code(), Some(2), "{}", output_text(&no_envoy));
}
