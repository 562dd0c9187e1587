//! How exercises are checked: what a student is told, and what can go wrong with what a student wrote.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mesh_lab::{CheckContext, Exercise, Lab, Outcome, Question, Tools};
use shared::lifecycle::Lifecycle;
use tempfile::TempDir;

const HARNESS: &str = "
pub fn answer(question: &str) -> String {
    crate::student::double(question.parse::<u32>().unwrap()).to_string()
}
";

const RIGHT: &str = "pub fn double(x: u32) -> u32 { 2 * x }";

/// The task of the exercise here: a function that doubles.
async fn doubles(context: &mut CheckContext) -> anyhow::Result<()> {
    let number = context.rng.number(10..=99);
    let program = context.compile("double.rs", HARNESS).await?;
    let question = Question { line: number.to_string(), description: format!("double({number})") };
    let answers = context.ask(&program, &[question]).await?;
    let met = answers == [(2 * number).to_string()];
    context.require("it doubles", 2 * number, &answers[0], met, "What is twice as much?");
    Ok(())
}

/// The task of the other one: an Envoy with a listener.
async fn listens(context: &mut CheckContext) -> anyhow::Result<()> {
    let envoy = context.envoy("envoy.yaml", &[("NAME", "here".to_owned())]).await?;
    let listeners = envoy.admin().listeners().await?.len();
    context.require("Envoy listens", "one listener", listeners, listeners == 1, "Look at the listeners.");
    Ok(())
}

/// A lab of one exercise in a folder of its own.
struct TestLab {
    folder: TempDir,
    lab: Lab,
    life: Lifecycle,
}

impl TestLab {
    fn new(exercise: Exercise) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_owned();
        let lab = Lab { demo: "shared", command: "lab", folder: place, exercises: vec![exercise] };
        Self { folder, lab, life: Lifecycle::default() }
    }

    fn doubling() -> Self {
        let test_lab =
            Self::new(Exercise { folder: "01-double", check: |context| Box::pin(doubles(context)) });
        test_lab.write("README.md", "# Twice as much");
        test_lab.write("hints.md", "## One\nhint\n## Two\nhints");
        test_lab.write("expected-failure.txt", "the task asks for …. What is twice as much?");
        test_lab.write("start/double.rs", "pub fn double(x: u32) -> u32 { x }");
        test_lab.write("solution/double.rs", RIGHT);
        test_lab.write("wrong/loop/double.rs", "pub fn double(_: u32) -> u32 { loop {} }");
        test_lab.write("wrong/loop/expected-failure.txt", "it did not return within 5s");
        test_lab.write(
            "wrong/panic/double.rs",
            "pub fn double(x: u32) -> u32 {\n    None.unwrap_or_else(|| panic!(\"not {x}\"))\n}",
        );
        test_lab
            .write("wrong/panic/expected-failure.txt", "asked for double(…), it panicked at double.rs:2:");
        test_lab
    }

    fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join("01-double").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    async fn run_check(&self, file: &str, text: &str) -> Outcome {
        let work = tempfile::tempdir().unwrap();
        fs::write(work.path().join(file), text).unwrap();
        let exercise = self.lab.exercises[0];
        exercise.run_check(&[work.path()], 7, &Tools::default(), &self.life).await.unwrap()
    }

    /// What is said first about this file.
    async fn first_message(&self, file: &str, text: &str) -> String {
        self.run_check(file, text).await.first_unmet().unwrap().to_string()
    }
}

#[tokio::test]
async fn verify_tries_the_solution_the_start_and_every_wrong_solution() {
    let test_lab = TestLab::doubling();
    let mut shown = 0;
    let proofs =
        test_lab.lab.verify(None, 1, &Tools::default(), &test_lab.life, |_| shown += 1).await.unwrap();
    assert!(proofs.iter().all(|proof| proof.held), "{proofs:#?}");
    let cases: Vec<_> = proofs.iter().map(|proof| proof.case.as_str()).collect();
    assert_eq!(cases, ["folder", "folder", "solution", "start", "wrong/loop", "wrong/panic"]);
    assert_eq!(shown, cases.len());
}

#[tokio::test]
async fn verify_finds_a_wrong_solution_that_passes_and_one_that_fails_for_another_reason() {
    let test_lab = TestLab::doubling();
    test_lab.write("wrong/panic/double.rs", RIGHT);
    test_lab.write("wrong/loop/double.rs", "pub fn double(_: u32) -> u32 { 1 }");
    test_lab.write("solution/double.rs", "pub fn double(x: u32) -> u32 { x + x + 1 }");
    fs::create_dir(test_lab.folder.path().join("02-forgotten")).unwrap();
    let proofs = test_lab.lab.verify(None, 1, &Tools::default(), &test_lab.life, |_| ()).await.unwrap();
    let unheld: Vec<_> = proofs.iter().filter(|proof| !proof.held).map(|proof| proof.case.as_str()).collect();
    assert_eq!(unheld, ["folder", "solution", "wrong/loop", "wrong/panic"], "{proofs:#?}");
}

#[tokio::test]
async fn a_file_that_does_not_compile_is_reported_with_message_and_position() {
    let test_lab = TestLab::doubling();
    let message = test_lab.first_message("double.rs", "pub fn double(x: u32) -> u32 {\n    y\n}").await;
    assert!(message.contains("cannot find value `y`") && message.contains("--> double.rs:2:5"), "{message}");
    let message = test_lab.first_message("double.rs", "pub fn double(x: String) -> String { x }").await;
    assert!(message.contains("harness.rs is the checker's"), "{message}");
    let message = test_lab.first_message("other.rs", RIGHT).await;
    assert!(message.contains("there is no double.rs"), "{message}");
}

#[tokio::test]
async fn a_program_that_exhausts_memory_or_exits_is_reported() {
    let test_lab = TestLab::doubling();
    let eats = "pub fn double(x: u32) -> u32 {\n    let v = vec![1u8; 8 << 30];\n    v[x as usize] as u32\n}";
    let message = test_lab.first_message("double.rs", eats).await;
    assert!(message.contains("asked for double(") && message.contains("memory allocation of"), "{message}");
    let leaves = "pub fn double(_: u32) -> u32 { std::process::exit(0) }";
    let message = test_lab.first_message("double.rs", leaves).await;
    assert!(message.contains("it ended without an answer"), "{message}");
}

#[tokio::test]
async fn program_output_is_separate_from_its_answers() {
    let test_lab = TestLab::doubling();
    let outcome = test_lab
        .run_check("double.rs", "pub fn double(x: u32) -> u32 { println!(\"x is {x}\"); 2 * x }")
        .await;
    assert!(outcome.solved(), "{outcome:?}");
    assert!(outcome.printed.starts_with("x is "), "{outcome:?}");
}

#[tokio::test]
async fn values_differ_from_seed_to_seed_and_are_the_same_for_the_same_seed() {
    let test_lab = TestLab::doubling();
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("double.rs"), RIGHT).unwrap();
    let mut seen = Vec::new();
    for seed in [1, 1, 2, 3, 4] {
        let exercise = test_lab.lab.exercises[0];
        let outcome =
            exercise.run_check(&[work.path()], seed, &Tools::default(), &test_lab.life).await.unwrap();
        seen.push(outcome.requirements[0].seen.clone());
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen.iter().any(|one| *one != seen[0]), "{seen:?}");
}

#[tokio::test]
async fn an_invalid_configuration_is_reported_with_its_position() {
    let test_lab =
        TestLab::new(Exercise { folder: "01-listen", check: |context| Box::pin(listens(context)) });
    let message = test_lab.first_message("envoy.yaml", "static_resources:\n  clusters: [\n  }").await;
    assert!(message.contains("envoy.yaml is YAML") && message.contains("line 2, column 13"), "{message}");
    let message =
        test_lab.first_message("envoy.yaml", "static_resources:\n  clusters:\n  - name: ${NAM}").await;
    assert!(message.contains("line 3 of envoy.yaml has ${NAM}"), "{message}");
    let message = test_lab
        .first_message("envoy.yaml", "static_resources: { clusters: [{ name: a, lb_polcy: X }] }")
        .await;
    assert!(message.contains("static_resources.clusters[0]: no such field: 'lb_polcy'"), "{message}");
    let message = test_lab.first_message("envoy.yaml", "just text").await;
    assert!(message.contains("envoy.yaml is one value"), "{message}");
    let message = test_lab.first_message("envoy.yaml", "static_resources: { clusters: [] }").await;
    assert!(message.contains("Envoy listens: 0; the task asks for one listener"), "{message}");
}

#[tokio::test]
async fn a_check_leaves_nothing_running_and_does_not_modify_the_students_file() {
    let test_lab = TestLab::doubling();
    let work = tempfile::tempdir().unwrap();
    let (file, pid) = (work.path().join("double.rs"), test_lab.folder.path().join("pid"));
    let endless = "pub fn double(_: u32) -> u32 { std::fs::write(PID, std::process::id().to_string()).unwrap(); loop {} }";
    fs::write(&file, endless.replace("PID", &format!("{pid:?}"))).unwrap();
    let before = (fs::read(&file).unwrap(), modified(&file));
    let started = Instant::now();
    let exercise = test_lab.lab.exercises[0];
    exercise.run_check(&[work.path()], 7, &Tools::default(), &test_lab.life).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!((fs::read(&file).unwrap(), modified(&file)), before);
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!Path::new("/proc").join(pid).exists());
}

fn modified(file: &Path) -> std::time::SystemTime {
    fs::metadata(file).unwrap().modified().unwrap()
}

/// The exercises of this crate itself, by the teacher's command.
#[test]
#[ignore = "needs openssl and curl"]
fn every_solution_here_passes_and_every_start_and_wrong_solution_fails_for_its_own_reason() {
    let verified = Command::new(env!("CARGO_BIN_EXE_lab")).arg("verify").output().unwrap();
    let message = String::from_utf8_lossy(&verified.stdout).into_owned();
    let complained = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert_eq!(verified.status.code(), Some(0), "{message}{complained}");
    assert_eq!(message.matches(" solution ").count(), 3, "{message}");
}

#[test]
fn the_command_lists_the_exercises_and_prints_its_usage() {
    let work = tempfile::tempdir().unwrap();
    let lab = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_lab")).args(args).env("LAB_WORK", work.path()).output().unwrap();
        let message = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), message + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, message) = lab(&[]);
    assert_eq!(code, Some(0), "{message}");
    assert!(message.contains("Several servers share one port"), "{message}");
    assert!(message.contains("`cargo run -p mesh-lab --bin lab 1` tells the task"), "{message}");
    assert_eq!(lab(&["99"]).0, Some(2));
}
