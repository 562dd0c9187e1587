//! Processes as a test sees them: whether one is running, which ones another has started, and a second process of
//! the same test that can be killed.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "in a test a panic is a finding")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shared::poll::wait_until;
use tempfile::TempDir;

const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Far more than any wait needs, so that a loaded machine fails no test.
const LIMIT: Duration = Duration::from_secs(120);
/// The variable that tells a second process where to write its number.
const PID_FILE: &str = "MESH_TEST_PID_FILE";

/// Returns whether a process with this id is running. A zombie, which only waits to be reaped, is not.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != "Z")
}

/// Waits until the process has ended.
pub async fn wait_until_ended(pid: u32) {
    let look = || std::future::ready(if is_running(pid) { Err("it is running") } else { Ok(()) });
    wait_until("the end of a process", POLL_INTERVAL, LIMIT, look).await.unwrap();
}

/// Returns the running processes that `parent` has started.
pub fn children(parent: u32) -> BTreeSet<u32> {
    let names = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = names.filter_map(|name| name.parse().ok());
    pids.filter(|&pid| stat(pid).is_some_and(|stat| stat.parent == parent && stat.state != "Z")).collect()
}

struct Stat {
    state: String,
    parent: u32,
}

/// Reads `/proc/PID/stat`: `PID (NAME) STATE PARENT ...`. The name can contain anything, brackets too.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    Some(Stat { state: fields.next()?.to_owned(), parent: fields.next()?.parse().ok()? })
}

/// Reports a process id from the second process of a test to the first one.
pub struct PidReport(PathBuf);

/// Returns `Some` in the process that [`run_this_test_again`] has started.
pub fn pid_report() -> Option<PidReport> {
    std::env::var_os(PID_FILE).map(|path| PidReport(path.into()))
}

impl PidReport {
    /// Sends the id.
    pub fn send(&self, pid: u32) {
        let new = self.0.with_extension("new");
        fs::write(&new, pid.to_string()).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

/// A second process of this test program.
pub struct SecondProcess {
    child: Child,
    // Holds its temporary files too, which it gets no chance to remove.
    _folder: TempDir,
}

impl SecondProcess {
    /// Kills it with SIGKILL, so that none of its clean-up code runs.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for SecondProcess {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Runs this test program again with only the test of this name, and waits for the id that it reports.
pub async fn run_this_test_again(test: &str) -> (SecondProcess, u32) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pid");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored"])
        .env(PID_FILE, &path)
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let second = SecondProcess { child, _folder: folder };
    let read = || std::future::ready(fs::read_to_string(&path));
    let pid = wait_until("the second process", POLL_INTERVAL, LIMIT, read).await.unwrap();
    (second, pid.parse().unwrap())
}
