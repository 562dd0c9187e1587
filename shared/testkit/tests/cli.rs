//! What every command promises: its exit codes, its end by a signal, and its errors.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use mesh_testkit::demo::{Demo, Running, text};
use rustix::process::Signal;
use serde_json::Value;

const TINY: Demo = Demo::new(env!("CARGO_BIN_EXE_tiny-demo"));

#[test]
fn a_run_ends_with_0_if_no_claim_is_broken_and_with_1_if_one_is() {
    for (ending, code) in [("holds", 0), ("not-checked", 0), ("empty", 0), ("mixed", 1)] {
        assert_eq!(TINY.run(&[ending]).status.code(), Some(code), "{ending}");
        assert_eq!(TINY.run(&[ending, "--json"]).status.code(), Some(code), "{ending}");
    }
}

#[test]
fn an_error_ends_a_run_with_1_and_is_reported_with_its_causes() {
    let output = TINY.run(&["fails"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text(&output.stderr), "error: cannot save\n  because: the disk is read-only\n");
    assert!(text(&output.stdout).trim_end().ends_with("cannot save: the disk is read-only"), "{output:?}");
    let report: Value = serde_json::from_slice(&TINY.run(&["fails", "--json"]).stdout).unwrap();
    assert_eq!(report["held"], false);
    assert_eq!(report["error"], "cannot save: the disk is read-only");
}

#[test]
fn a_setup_error_exits_with_2() {
    for args in [&["setup-error"][..], &["setup-error", "--role"]] {
        let output = TINY.run(args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains("no tiny program: install it"), "{output:?}");
    }
    for args in [&["--no-such-flag"][..], &[], &["no-such-ending"]] {
        let output = TINY.run(args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains("--help"), "{output:?}");
    }
}

/// Returns a command for the example that a signal can end. A test run under `nohup` ignores SIGHUP, and its children
/// would inherit that.
fn with_default_signals(args: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,INT,QUIT,TERM").arg(env!("CARGO_BIN_EXE_tiny-demo"));
    command.args(args).stdin(Stdio::null());
    command
}

const SIGNALS: [(Signal, i32); 4] =
    [(Signal::HUP, 129), (Signal::INT, 130), (Signal::QUIT, 131), (Signal::TERM, 143)];

#[test]
fn a_signal_ends_a_run_with_128_and_its_number() {
    for (signal, code) in SIGNALS {
        let mut running = Running::start(with_default_signals(&["waits"]));
        running.read_until("waiting");
        running.signal(signal);
        let (ended, printed) = running.finish();
        assert_eq!(ended, Some(code), "{signal:?}");
        // The report of what was measured until then is printed all the same.
        assert!(printed.lines().last().unwrap().starts_with("0 of 0 claims held in "), "{printed}");
    }
}

#[test]
fn a_signal_ends_a_role_with_0() {
    for (signal, _) in SIGNALS {
        let mut running = Running::start(with_default_signals(&["waits", "--role"]));
        running.read_until("waiting");
        running.signal(signal);
        assert_eq!(running.finish().0, Some(0), "{signal:?}");
    }
}

#[test]
fn with_stay_a_signal_does_not_change_the_exit_code() {
    for (ending, code) in [("holds", 0), ("mixed", 1)] {
        let mut running = Running::start(with_default_signals(&[ending, "--stay"]));
        running.read_until("It stays up.");
        running.signal(Signal::INT);
        let (ended, printed) = running.finish();
        assert_eq!(ended, Some(code), "{ending}");
        assert_eq!(printed.matches(" claims held in ").count(), 1, "one report only:\n{printed}");
    }
}

#[test]
fn an_error_ends_a_role_with_1() {
    let output = TINY.run(&["fails", "--role"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("error: cannot save"), "{output:?}");
}

#[test]
fn a_task_that_ignores_its_token_is_reported_and_the_run_fails() {
    for args in [&["overdue"][..], &["overdue", "--role"]] {
        let output = TINY.run(args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("error: 1 tasks still run"), "{output:?}");
    }
}

#[test]
fn a_port_in_use_ends_with_2_and_the_message_names_the_next_step() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = TINY.run(&["listen", "--role", "--listen", &address]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    for part in [&format!("{address} is taken") as &str, "ss -ltnp", "--listen (or LISTEN)", "port 0"] {
        assert!(text(&output.stderr).contains(part), "'{part}' is not in {output:?}");
    }
    drop(taken);
    assert_eq!(TINY.run(&["listen", "--role", "--listen", "127.0.0.1:0"]).status.code(), Some(0));
}

#[test]
fn an_address_of_another_machine_ends_with_2_and_the_reason() {
    // Reserved for documentation (RFC 5737): no machine has it.
    let output = TINY.run(&["listen", "--role", "--listen", "192.0.2.1:0"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("cannot listen on 192.0.2.1:0"), "{output:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_report_that_does_not_fit_on_the_disk_ends_with_1() {
    for args in [&["holds"][..], &["holds", "--json"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = TINY.command(args).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("did not reach stdout"), "{output:?}");
    }
}

#[test]
fn a_reader_that_closes_the_pipe_changes_no_exit_code() {
    for (ending, code) in [("holds", 0), ("mixed", 1)] {
        let mut command = TINY.command(&[ending]);
        // `| head`, in the extreme: the reader is gone before the first line.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert_eq!((child.wait().unwrap().code(), complaint.as_str()), (Some(code), ""), "{ending}");
    }
}
