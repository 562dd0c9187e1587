//! The command as a user runs it, without root: replays, the doctor, wrong words; and how bpftrace is told to end.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use demo2_bpf::doctor;
use demo2_bpf::program::Program;
use demo2_bpf::tracer::Tracer;
use serde_json::Value;
use shared::lifecycle::Lifecycle;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_demo2-bpf")).args(args).env_remove("BPFTRACE").output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_replay_evaluates_the_recorded_run_and_states_its_date() {
    let output = run(&["--replay", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["held"], true);
    assert_eq!(report["steps"].as_array().unwrap().len(), 9);
    assert_eq!(report["claims"].as_array().unwrap().len(), 20);
    assert!(report["versions"]["replay of"].as_str().unwrap().contains("Linux"), "{}", report["versions"]);
    assert!(stderr(&output).contains("recorded run"), "{}", stderr(&output));
}

#[test]
fn without_bpftrace_it_reports_that_and_replays_a_recorded_run() {
    let output = run(&["--bpftrace", "/nowhere/bpftrace", "--program", "accept"]);
    let reported = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{reported}");
    for words in ["cannot watch its kernel", "recorded run", "demo2-bpf doctor", "2 of 2 claims held"] {
        assert!(reported.contains(words), "{words} is not in {reported}");
    }
}

#[test]
fn an_empty_bpftrace_path_selects_the_default() {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_demo2-bpf"));
    let output = doctor.arg("doctor").env("BPFTRACE", "").env("PATH", "/nowhere").output().unwrap();
    let reported = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(reported.contains("MISSING  bpftrace"), "{reported}");
}

#[test]
fn a_recorded_run_is_not_used_if_a_specific_envoy_or_a_recording_is_requested() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("kept");
    for args in [
        &["--pid", "1", "--admin", "127.0.0.1:9"][..],
        &["--attach", "x", "--admin", "127.0.0.1:9"],
        &["--container"],
        &["--record", record.to_str().unwrap()],
    ] {
        let output = run(&[args, &["--bpftrace", "/nowhere/bpftrace"]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        // Which obstacle comes first depends on who runs this where.
        for words in ["cannot watch its kernel", "doctor", "--replay"] {
            assert!(stderr(&output).contains(words), "{words} is not in {}", stderr(&output));
        }
    }
    assert!(!record.exists());
}

#[test]
fn the_doctor_names_what_is_missing_and_how_to_fix_it() {
    let output = run(&["doctor", "--bpftrace", "/nowhere/bpftrace"]);
    let reported = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{reported}");
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
        assert!(reported.contains(words), "{words} is not in {reported}");
    }
}

#[test]
fn an_old_bpftrace_is_reported_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let bpftrace = folder.path().join("bpftrace");
    for (version, words) in
        [("v0.9.4", "0.9.4, older than 0.17"), ("v0.17.0", "ok  bpftrace"), ("v1.0", "ok  bpftrace")]
    {
        fs::write(&bpftrace, format!("#!/bin/sh\necho bpftrace {version}\n")).unwrap();
        fs::set_permissions(&bpftrace, fs::Permissions::from_mode(0o755)).unwrap();
        let reported = run(&["doctor", "--bpftrace", bpftrace.to_str().unwrap()]);
        let reported = String::from_utf8_lossy(&reported.stdout).into_owned();
        assert!(reported.contains(words), "{words} is not in {reported}");
    }
}

#[test]
fn a_missing_kernel_feature_blocks_only_programs_that_need_it() {
    let folder = tempfile::tempdir().unwrap();
    for point in Program::ALL.into_iter().flat_map(Program::tracepoints) {
        fs::create_dir_all(folder.path().join("events").join(point.replace(':', "/"))).unwrap();
    }
    let lacking = |btf| -> Vec<Program> {
        Program::ALL
            .into_iter()
            .filter(|it| doctor::missing_for_host(*it, folder.path(), btf).is_some())
            .collect()
    };
    assert_eq!(lacking(true), []);
    assert_eq!(lacking(false), [Program::States, Program::Requests, Program::Latency, Program::Errors]);
    fs::remove_dir(folder.path().join("events/tcp/tcp_retransmit_skb")).unwrap();
    assert_eq!(lacking(true), [Program::Errors]);
    let why = doctor::missing_for_host(Program::Errors, folder.path(), true).unwrap();
    assert!(why.contains("tcp:tcp_retransmit_skb"), "{why}");
}

#[test]
fn invalid_arguments_exit_with_2_and_name_valid_values() {
    for (args, words) in [
        (&["--program", "nothing"][..], "listen, accept, states"),
        (&["--pid", "1"], "--admin"),
        (&["--attach", "x", "--admin", "nowhere"], "--admin"),
        (&["--container", "--replay"], "--replay"),
        (&["--pid", "1", "--attach", "x", "--admin", "127.0.0.1:9"], "--attach"),
        // They would change nothing, so they are refused.
        (&["--admin", "127.0.0.1:9"], "--pid"),
        (&["--target", "127.0.0.1:9"], "--pid"),
        (&["--replay", "--stay"], "--stay"),
        (&["--no-such-flag"], "--help"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(words), "{words} is not in {}", stderr(&output));
    }
}

/// Ends as bpftrace does: from then on an interrupt is deadly, while its maps are still being printed.
const SLOW_TO_PRINT: &str = r#"#!/bin/sh
trap 'LOST' INT TERM
printf '%s\n' '{"type": "printf", "data": "READY\n"}'
while [ -z "$told" ]; do sleep 0.01; done
trap - INT
sleep 3
printf '%s\n' '{"type": "map", "data": {"@accepted": {"1": 23}}}'
"#;

#[tokio::test]
async fn bpftrace_prints_its_maps_whether_it_missed_the_first_signal_or_takes_long() {
    let folder = tempfile::tempdir().unwrap();
    // Heard at once; and missed at first, as version 0.17 misses one that comes while it reads events.
    for (name, heard) in [("prompt", "told=1"), ("deaf", "told=$once; once=1")] {
        let bpftrace = folder.path().join(name);
        fs::write(&bpftrace, SLOW_TO_PRINT.replace("LOST", heard)).unwrap();
        fs::set_permissions(&bpftrace, fs::Permissions::from_mode(0o755)).unwrap();
        let life = Lifecycle::default();
        let tracer = Tracer::start(&bpftrace, Program::Accept, &[], &life).await.unwrap();
        let lines = tracer.stop().await.unwrap();
        assert!(lines.iter().any(|line| line.contains("@accepted")), "{name}: {lines:?}");
        life.shut_down(Duration::from_secs(10)).await.unwrap();
    }
}
