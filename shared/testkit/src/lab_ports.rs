//! Tests about the lab ports, which are fixed: another program, such as a demo with `--stay`, can be using them.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "in a test a panic is a finding")]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::demo::{Demo, text};

/// Set in a process that has a network namespace to itself.
const OWN_NETWORK: &str = "MESH_TEST_OWN_NETWORK";

/// A port that is in use, by the test or by another program.
#[derive(Debug)]
pub struct InUse {
    _listener: Option<TcpListener>,
    _alone: MutexGuard<'static, ()>,
}

/// Makes sure that a lab port of the loopback interface is in use. If another program is using it, that is enough.
pub fn take(port: u16) -> InUse {
    let alone = alone();
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => InUse { _listener: Some(listener), _alone: alone },
        Err(error) if error.kind() == ErrorKind::AddrInUse => InUse { _listener: None, _alone: alone },
        Err(error) => panic!("port {port}: {error}"),
    }
}

/// Asserts that a demo with `--stay` ends with exit code 2 if one of its lab ports is in use, and that it names a port
/// and the next step. Another program may be using more of these ports than the test does.
pub fn assert_stay_names_a_port_in_use(demo: Demo, ports: &[u16]) {
    let _in_use = take(ports[0]);
    let output = demo.run(&["--stay"]);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    let is_named = |port: &u16| complaint.contains(&format!("127.0.0.1:{port} is taken"));
    assert!(ports.iter().any(is_named) && complaint.contains("leave out --stay"), "{complaint}");
}

/// Runs `body`, which uses these lab ports, while no other test of this process does.
///
/// If another program uses one of them, the test of the name `test` runs again in a network namespace, where all ports
/// are free (Linux).
pub fn with_free(test: &str, ports: &[u16], body: impl FnOnce()) {
    let _alone = alone();
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let Some(taken) = ports.iter().find(|port| !is_free(port)) else { return body() };
    assert!(std::env::var_os(OWN_NETWORK).is_none(), "port {taken} is in use in a fresh network namespace");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored"])
        .env(OWN_NETWORK, "yes")
        .stdin(Stdio::null())
        .output();
    let output =
        output.unwrap_or_else(|error| panic!("port {taken} is in use, and unshare does not start: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && stdout.contains("1 passed");
    assert!(
        passed,
        "port {taken} is in use, and in a network namespace the test fails:\n{stdout}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Waits until no other test of this process is using the lab ports.
fn alone() -> MutexGuard<'static, ()> {
    static LAB_PORTS: Mutex<()> = Mutex::new(());
    LAB_PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}
