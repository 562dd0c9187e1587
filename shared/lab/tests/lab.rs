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
async fn doubles(bench: &mut CheckContext) -> anyhow::Result<()> {
    let number = bench.rng.number(10..=99);
    let program = bench.compile("double.rs", HARNESS).await?;
    let question = Question { line: number.to_string(), description: format!("double({number})") };
    let answers = bench.ask(&program, &[question]).await?;
    let met = answers == [(2 * number).to_string()];
    bench.require("it doubles", 2 * number, &answers[0], met, "What is twice as much?");
    Ok(())
}

/// The task of the other one: an Envoy with a listener.
async fn listens(bench: &mut CheckContext) -> anyhow::Result<()> {
    let envoy = bench.envoy("envoy.yaml", &[("NAME", "here".to_owned())]).await?;
    let listeners = envoy.admin().listeners().await?.len();
    bench.require("Envoy listens", "one listener", listeners, listeners == 1, "Look at the listeners.");
    Ok(())
}

/// A lab of one exercise in a folder of its own.
struct Course {
    folder: TempDir,
    lab: Lab,
    life: Lifecycle,
}

impl Course {
    fn new(exercise: Exercise) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_owned();
        let lab = Lab { demo: "shared", command: "lab", folder: place, exercises: vec![exercise] };
        Self { folder, lab, life: Lifecycle::default() }
    }

    fn doubling() -> Self {
        let course = Self::new(Exercise { folder: "01-double", check: |bench| Box::pin(doubles(bench)) });
        course.write("README.md", "# Twice as much");
        course.write("hints.md", "## One\nhint\n## Two\nhints");
        course.write("expected-failure.txt", "the task asks for …. What is twice as much?");
        course.write("start/double.rs", "pub fn double(x: u32) -> u32 { x }");
        course.write("solution/double.rs", RIGHT);
        course.write("wrong/loop/double.rs", "pub fn double(_: u32) -> u32 { loop {} }");
        course.write("wrong/loop/expected-failure.txt", "it did not return within 5s");
        course.write(
            "wrong/panic/double.rs",
            "pub fn double(x: u32) -> u32 {\n    None.unwrap_or_else(|| panic!(\"not {x}\"))\n}",
        );
        course.write("wrong/panic/expected-failure.txt", "asked for double(…), it panicked at double.rs:2:");
        course
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
    async fn told(&self, file: &str, text: &str) -> String {
        self.run_check(file, text).await.first_unmet().unwrap().to_string()
    }
}

#[tokio::test]
async fn verify_tries_the_solution_the_start_and_every_wrong_solution() {
    let course = Course::doubling();
    let mut shown = 0;
    let proofs = course.lab.verify(None, 1, &Tools::default(), &course.life, |_| shown += 1).await.unwrap();
    assert!(proofs.iter().all(|proof| proof.held), "{proofs:#?}");
    let cases: Vec<_> = proofs.iter().map(|proof| proof.case.as_str()).collect();
    assert_eq!(cases, ["folder", "folder", "solution", "start", "wrong/loop", "wrong/panic"]);
    assert_eq!(shown, cases.len());
}

#[tokio::test]
async fn verify_finds_a_wrong_solution_that_passes_and_one_that_fails_for_another_reason() {
    let course = Course::doubling();
    course.write("wrong/panic/double.rs", RIGHT);
    course.write("wrong/loop/double.rs", "pub fn double(_: u32) -> u32 { 1 }");
    course.write("solution/double.rs", "pub fn double(x: u32) -> u32 { x + x + 1 }");
    fs::create_dir(course.folder.path().join("02-forgotten")).unwrap();
    let proofs = course.lab.verify(None, 1, &Tools::default(), &course.life, |_| ()).await.unwrap();
    let unheld: Vec<_> = proofs.iter().filter(|proof| !proof.held).map(|proof| proof.case.as_str()).collect();
    assert_eq!(unheld, ["folder", "solution", "wrong/loop", "wrong/panic"], "{proofs:#?}");
}

#[tokio::test]
async fn a_file_that_does_not_compile_is_shown_with_the_compilers_words_and_place() {
    let course = Course::doubling();
    let said = course.told("double.rs", "pub fn double(x: u32) -> u32 {\n    y\n}").await;
    assert!(said.contains("cannot find value `y`") && said.contains("--> double.rs:2:5"), "{said}");
    let said = course.told("double.rs", "pub fn double(x: String) -> String { x }").await;
    assert!(said.contains("harness.rs is the checker's"), "{said}");
    let said = course.told("other.rs", RIGHT).await;
    assert!(said.contains("there is no double.rs"), "{said}");
}

#[tokio::test]
async fn a_program_that_eats_memory_or_leaves_is_told_so() {
    let course = Course::doubling();
    let eats = "pub fn double(x: u32) -> u32 {\n    let v = vec![1u8; 8 << 30];\n    v[x as usize] as u32\n}";
    let said = course.told("double.rs", eats).await;
    assert!(said.contains("asked for double(") && said.contains("memory allocation of"), "{said}");
    let leaves = "pub fn double(_: u32) -> u32 { std::process::exit(0) }";
    let said = course.told("double.rs", leaves).await;
    assert!(said.contains("it ended without an answer"), "{said}");
}

#[tokio::test]
async fn what_a_program_prints_is_kept_apart_from_its_answers() {
    let course = Course::doubling();
    let outcome =
        course.run_check("double.rs", "pub fn double(x: u32) -> u32 { println!(\"x is {x}\"); 2 * x }").await;
    assert!(outcome.solved(), "{outcome:?}");
    assert!(outcome.printed.starts_with("x is "), "{outcome:?}");
}

#[tokio::test]
async fn values_differ_from_seed_to_seed_and_are_the_same_for_the_same_seed() {
    let course = Course::doubling();
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("double.rs"), RIGHT).unwrap();
    let mut seen = Vec::new();
    for seed in [1, 1, 2, 3, 4] {
        let exercise = course.lab.exercises[0];
        let outcome =
            exercise.run_check(&[work.path()], seed, &Tools::default(), &course.life).await.unwrap();
        seen.push(outcome.requirements[0].seen.clone());
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen.iter().any(|one| *one != seen[0]), "{seen:?}");
}

#[tokio::test]
async fn a_configuration_that_does_not_parse_or_that_envoy_refuses_is_told_with_its_place() {
    let course = Course::new(Exercise { folder: "01-listen", check: |bench| Box::pin(listens(bench)) });
    let said = course.told("envoy.yaml", "static_resources:\n  clusters: [\n  }").await;
    assert!(said.contains("envoy.yaml is YAML") && said.contains("line 2, column 13"), "{said}");
    let said = course.told("envoy.yaml", "static_resources:\n  clusters:\n  - name: ${NAM}").await;
    assert!(said.contains("line 3 of envoy.yaml has ${NAM}"), "{said}");
    let said = course.told("envoy.yaml", "static_resources: { clusters: [{ name: a, lb_polcy: X }] }").await;
    assert!(said.contains("static_resources.clusters[0]: no such field: 'lb_polcy'"), "{said}");
    let said = course.told("envoy.yaml", "just text").await;
    assert!(said.contains("envoy.yaml is one value"), "{said}");
    let said = course.told("envoy.yaml", "static_resources: { clusters: [] }").await;
    assert!(said.contains("Envoy listens: 0; the task asks for one listener"), "{said}");
}

#[tokio::test]
async fn nothing_is_left_running_and_the_students_file_is_as_it_was() {
    let course = Course::doubling();
    let work = tempfile::tempdir().unwrap();
    let (file, pid) = (work.path().join("double.rs"), course.folder.path().join("pid"));
    let endless = "pub fn double(_: u32) -> u32 { std::fs::write(PID, std::process::id().to_string()).unwrap(); loop {} }";
    fs::write(&file, endless.replace("PID", &format!("{pid:?}"))).unwrap();
    let before = (fs::read(&file).unwrap(), modified(&file));
    let begun = Instant::now();
    let exercise = course.lab.exercises[0];
    exercise.run_check(&[work.path()], 7, &Tools::default(), &course.life).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60));
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
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    let complained = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert_eq!(verified.status.code(), Some(0), "{said}{complained}");
    assert_eq!(said.matches(" solution ").count(), 3, "{said}");
}

#[test]
fn the_command_lists_the_exercises_and_says_how_to_call_it() {
    let work = tempfile::tempdir().unwrap();
    let lab = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_lab")).args(args).env("LAB_WORK", work.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, said) = lab(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Several servers share one port"), "{said}");
    assert!(said.contains("`cargo run -p mesh-lab --bin lab 1` tells the task"), "{said}");
    assert_eq!(lab(&["99"]).0, Some(2));
}
