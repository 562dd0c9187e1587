//! The command as a user runs it, without root: replays, the doctor, and wrong words.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

use serde_json::Value;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_demo2-bpf")).args(args).env_remove("BPFTRACE").output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_replay_judges_the_recorded_run_and_says_from_when_it_is() {
    let output = run(&["--replay", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["held"], true);
    assert_eq!(report["steps"].as_array().unwrap().len(), 8);
    assert_eq!(report["claims"].as_array().unwrap().len(), 15);
    assert!(report["versions"]["replay of"].as_str().unwrap().contains("Linux"), "{}", report["versions"]);
}

#[test]
fn without_bpftrace_it_says_so_and_shows_a_recorded_run() {
    let output = run(&["--bpftrace", "/nowhere/bpftrace", "--program", "accept"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    for words in ["cannot watch its kernel", "recorded run", "demo2-bpf doctor", "2 of 2 claims held"] {
        assert!(told.contains(words), "{words} is not in {told}");
    }
}

#[test]
fn the_doctor_names_what_is_missing_and_the_remedy() {
    let output = run(&["doctor", "--bpftrace", "/nowhere/bpftrace"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for words in [
        "MISSING  bpftrace",
        "apt-get install bpftrace",
        "--replay",
        "Linux",
        "tracefs",
        "BTF",
        "memlock",
        "config",
    ] {
        assert!(told.contains(words), "{words} is not in {told}");
    }
}

#[test]
fn wrong_words_end_with_exit_code_2_and_what_would_be_right() {
    for (args, words) in [
        (&["--program", "nothing"][..], "listen, accept, states"),
        (&["--pid", "1"], "--admin"),
        (&["--attach", "x", "--admin", "nowhere"], "--admin"),
        (&["--container", "--replay"], "--replay"),
        (&["--no-such-flag"], "--help"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(words), "{words} is not in {}", stderr(&output));
    }
}
