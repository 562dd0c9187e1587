//! What the tests about processes need: to look a process up, and to be a process that gets killed.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shared::poll::wait_until;
use tempfile::TempDir;

const EVERY: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(60);
const TOLD: &str = "MESH_TEST_SAY_PID_IN";

/// Whether a process of this number lives; one that only waits to be reaped does not.
pub fn is_there(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().unwrap_or_default();
    !state.is_empty() && !state.starts_with('Z')
}

/// Waits until the process is gone.
pub async fn gone(pid: u32) {
    let look = || std::future::ready(if is_there(pid) { Err("it is there") } else { Ok(()) });
    wait_until("a process to be gone", EVERY, LIMIT, look).await.unwrap();
}

/// The second process of a test, and its way to tell the first one a number.
pub struct Told(PathBuf);

/// `Some` in the process that [`run_again`] has started.
pub fn told_by_test() -> Option<Told> {
    std::env::var_os(TOLD).map(|path| Told(path.into()))
}

impl Told {
    /// Tells it.
    pub fn say(&self, pid: u32) {
        let new = self.0.with_extension("new");
        fs::write(&new, pid.to_string()).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

/// A second process of this test program.
pub struct Again {
    child: Child,
    // Its temporary files too, which it gets no chance to remove.
    _folder: TempDir,
}

impl Again {
    /// `kill -9`: nothing in that process gets to run any more.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Runs this test program again with just this one test, and waits for the number that it says.
pub async fn run_again(test: &str) -> (Again, u32) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pid");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored"])
        .env(TOLD, &path)
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let again = Again { child, _folder: folder };
    let read = || std::future::ready(fs::read_to_string(&path));
    let pid = wait_until("the second process", EVERY, LIMIT, read).await.unwrap();
    (again, pid.parse().unwrap())
}
