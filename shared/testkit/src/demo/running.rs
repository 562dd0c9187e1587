//! A demo that is running: a test reads what it prints, sends a signal, and checks that nothing is left.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::processes;

/// Far more than the end of a process needs, so that a loaded machine fails no test.
const LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A running demo. A test that fails kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    // A file, because a full pipe would block the demo.
    stderr: File,
    printed: String,
    started: BTreeSet<u32>,
}

impl Running {
    /// Starts the command with its stdout connected to the test.
    pub fn start(mut command: Command) -> Self {
        let stderr = tempfile::tempfile().unwrap();
        command.stdout(Stdio::piped()).stderr(stderr.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, stderr, printed: String::new(), started: BTreeSet::new() }
    }

    /// Reads until a line begins with `beginning`, and returns that line.
    pub fn read_until(&mut self, beginning: &str) -> String {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                let (status, stderr) = (self.child.wait().unwrap(), self.complaint());
                panic!("{status} before a line '{beginning}'; stdout:\n{}\nstderr:\n{stderr}", self.printed);
            }
            self.printed += &line;
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    /// Returns what was read so far.
    pub fn printed(&self) -> &str {
        &self.printed
    }

    /// Returns the demo's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the demo has at least `count` child processes: its Envoys and other programs.
    pub fn wait_for_children(&mut self, count: usize) {
        self.wait("the demo's programs", |running| {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", running.complaint());
            processes::children(running.pid()).len() >= count
        });
    }

    /// Sends a signal, and remembers which processes [`finish`](Self::finish) must not find afterwards.
    pub fn signal(&mut self, signal: Signal) {
        self.started = processes::children(self.pid());
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, asserts that no process that it had started is running, and returns its exit code and all
    /// that it printed. The exit code is `None` if a signal ended it.
    pub fn finish(mut self) -> (Option<i32>, String) {
        // A full pipe would block the demo, so read on.
        self.stdout.read_to_string(&mut self.printed).unwrap();
        let code = self.child.wait().unwrap().code();
        if code.is_none() {
            // It had no chance to end its programs, so the kernel does, a moment later.
            self.wait("the end of a killed demo's programs", |running| running.left().is_empty());
        }
        let left = self.left();
        assert!(left.is_empty(), "{left:?} are still running");
        (code, std::mem::take(&mut self.printed))
    }

    fn left(&self) -> Vec<u32> {
        self.started.iter().copied().filter(|pid| processes::is_running(*pid)).collect()
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        self.stderr.seek(SeekFrom::Start(0)).unwrap();
        self.stderr.read_to_string(&mut text).unwrap();
        text
    }

    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
