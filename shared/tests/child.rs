//! Programs end when they should: told to, dropped, with their lifecycle, with us.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mesh_testkit::processes::{self, wait_until_ended};
use shared::child::{self, Running, STOP_TIMEOUT};
use shared::lifecycle::{GRACE, Lifecycle};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

/// Starts a script and waits until it says so.
async fn start(script: &str, life: &Lifecycle) -> Running {
    let mut command = shell(&format!("{script}\necho up; while :; do sleep 600 & wait; done"));
    command.stdout(Stdio::piped());
    let mut running = Running::start(command, life, ()).await.unwrap();
    let mut said = BufReader::new(running.stdout().unwrap()).lines();
    assert_eq!(said.next_line().await.unwrap().as_deref(), Some("up"));
    running
}

#[tokio::test]
async fn a_program_that_is_told_to_stop_may_say_goodbye() {
    let life = Lifecycle::default();
    let running = start("trap 'exit 7' TERM", &life).await;
    let status = running.stop().await.unwrap();
    assert_eq!(status.code(), Some(7));
    wait_until_ended(running.pid()).await;
}

#[tokio::test]
async fn a_program_that_ignores_the_request_is_killed_after_a_while() {
    let life = Lifecycle::default();
    let running = start("trap '' TERM", &life).await;
    let asked = Instant::now();
    let status = running.stop().await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert!(asked.elapsed() >= STOP_TIMEOUT);
    wait_until_ended(running.pid()).await;
}

#[tokio::test]
async fn the_end_of_the_lifecycle_is_the_end_of_even_a_stubborn_program() {
    let life = Lifecycle::default();
    let (meek, stubborn) = (start("", &life).await, start("trap '' TERM", &life).await);
    life.shut_down(GRACE).await.unwrap();
    wait_until_ended(meek.pid()).await;
    wait_until_ended(stubborn.pid()).await;
}

#[tokio::test]
async fn a_dropped_program_is_killed_and_what_was_kept_for_it_is_kept_until_then() {
    let life = Lifecycle::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let mut command = shell("sleep 600");
    command.stdout(Stdio::null());
    let running = Running::start(command, &life, folder).await.unwrap();
    let pid = running.pid();
    assert!(path.exists());
    drop(running);
    wait_until_ended(pid).await;
    life.shut_down(GRACE).await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn the_output_of_a_talkative_program_is_cut_and_the_program_still_ends() {
    let limit = Duration::from_secs(60);
    let output =
        child::output(shell("head -c 3000000 /dev/zero; echo end >&2; exit 4"), limit).await.unwrap();
    assert_eq!((output.stdout.len(), output.status.code()), (1 << 20, Some(4)));
    assert_eq!(output.stderr, b"end\n");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_an_error_at_once() {
    let error = child::spawn(Command::new("/no/such/program")).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_outlives_the_thread_that_asked_for_it() {
    let runtime = tokio::runtime::Handle::current();
    let (send, receive) = tokio::sync::oneshot::channel();
    let asking = std::thread::spawn(move || {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = runtime.block_on(child::spawn(command)).unwrap();
        let thread = fs::read_link("/proc/thread-self").unwrap();
        _ = send.send((child, thread));
    });
    let (mut child, thread) = receive.await.unwrap();
    asking.join().unwrap();
    // `join` may return a moment before the kernel has taken the thread's end for a parent's death.
    let (every, limit) = (Duration::from_millis(1), Duration::from_secs(60));
    let ended = || {
        let there = fs::exists(format!("/proc/{}", thread.display())).unwrap_or(false);
        std::future::ready(if there { Err("it is there") } else { Ok(()) })
    };
    shared::poll::wait_until("the thread's end", every, limit, ended).await.unwrap();

    let (mut stdin, stdout) = (child.stdin().unwrap(), child.stdout().unwrap());
    stdin.write_all(b"still here\n").await.unwrap();
    let answer = BufReader::new(stdout).lines().next_line().await.unwrap();
    assert_eq!(answer.as_deref(), Some("still here"));
}

/// Plays both parts: run by the test runner it starts itself again, and kills that process.
#[tokio::test]
async fn a_parent_that_is_killed_takes_its_programs_along() {
    if let Some(report) = processes::pid_report() {
        // `exec` replaces the shell, so that the program is our child: a grandchild would keep running.
        let command = shell("trap '' TERM; exec sleep 600");
        let running = Running::start(command, &Lifecycle::default(), ()).await.unwrap();
        report.send(running.pid());
        std::future::pending::<()>().await;
    }
    let (parent, pid) =
        processes::run_this_test_again("a_parent_that_is_killed_takes_its_programs_along").await;
    assert!(processes::is_running(pid));
    parent.kill();
    wait_until_ended(pid).await;
}
