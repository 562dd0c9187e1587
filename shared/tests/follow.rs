//! A follower publishes complete and valid values only, and reports an error once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use shared::follow::{Change, Follower, PollOutcome, PollTiming, Reading, Source, text};
use tokio::sync::mpsc;

/// Short waits: every source here is scripted, so no result depends on when a look happens.
const PACE: PollTiming =
    PollTiming { every: Duration::from_millis(2), confirm: Some(Duration::from_millis(1)) };

/// A file with one address in each line.
struct Addresses(PathBuf);

impl Source for Addresses {
    type Content = String;
    type Value = Vec<SocketAddr>;
    type Error = String;

    fn read(&mut self) -> Result<Reading<String>, String> {
        text(&self.0, 1 << 10).map_err(|error| error.to_string())
    }

    fn parse(&mut self, content: &String) -> Result<Vec<SocketAddr>, String> {
        content.lines().map(|line| line.parse().map_err(|_| format!("`{line}` is not an address"))).collect()
    }
}

/// A source whose looks are known in advance. The last one is repeated.
struct Script(VecDeque<Result<Reading<&'static str>, &'static str>>);

impl Script {
    fn new<const N: usize>(looks: [Result<&'static str, &'static str>; N]) -> Self {
        let reading = |content| Reading { content, modified: Vec::new() };
        Self(looks.into_iter().map(|look| look.map(reading)).collect())
    }
}

impl Source for Script {
    type Content = &'static str;
    type Value = u32;
    type Error = String;

    fn read(&mut self) -> Result<Reading<&'static str>, String> {
        let next = if self.0.len() > 1 { self.0.pop_front() } else { self.0.front().cloned() };
        next.unwrap().map_err(ToOwned::to_owned)
    }

    fn parse(&mut self, content: &&'static str) -> Result<u32, String> {
        content.parse().map_err(|_| format!("`{content}` is not a number"))
    }
}

fn addresses(text: &str) -> Vec<SocketAddr> {
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_file_cut_in_the_middle_of_a_port_is_never_published() {
    const OLD: &str = "127.0.0.1:50051\n";
    const NEW: &str = "127.0.0.1:50051\n127.0.0.1:50052\n127.0.0.1:50053\n";
    // The first half is a valid file, whose last address has port 500.
    let half = &NEW[..NEW.find("53\n").unwrap()];
    assert_eq!(addresses(half).last().unwrap().port(), 500);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("addresses");
    fs::write(&path, OLD).unwrap();
    let mut follower = Follower::new(Addresses(path.clone()), PACE);
    assert_eq!(follower.poll(), Ok(PollOutcome::Unconfirmed));
    assert_eq!(follower.poll(), Ok(PollOutcome::Value(addresses(OLD))));
    // The writer truncates the file, writes half of it, and is interrupted; a look falls between any two steps.
    for written in ["", half, NEW] {
        fs::write(&path, written).unwrap();
        assert_eq!(
            follower.poll(),
            Ok(PollOutcome::Unconfirmed),
            "published while the file held {written:?}"
        );
    }
    assert_eq!(follower.poll(), Ok(PollOutcome::Value(addresses(NEW))));
    assert_eq!(follower.poll(), Ok(PollOutcome::Unchanged));
}

#[test]
fn a_file_that_a_writer_touched_between_two_looks_is_looked_at_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("addresses");
    fs::write(&path, "127.0.0.1:1\n").unwrap();
    let mut follower = Follower::new(Addresses(path.clone()), PACE);
    assert_eq!(follower.poll(), Ok(PollOutcome::Unconfirmed));
    // The same text with another time: the writer started again, and has come as far as before.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    assert_eq!(follower.poll(), Ok(PollOutcome::Unconfirmed));
    assert_eq!(follower.poll(), Ok(PollOutcome::Value(addresses("127.0.0.1:1\n"))));
    // Once it is published, a new time with the same text is not a change.
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(2)).unwrap();
    assert_eq!(follower.poll(), Ok(PollOutcome::Unchanged));
}

#[test]
fn after_an_error_two_more_looks_have_to_agree() {
    let mut follower = Follower::new(Script::new([Ok("1"), Err("gone"), Ok("1"), Ok("1")]), PACE);
    assert_eq!(follower.poll(), Ok(PollOutcome::Unconfirmed));
    assert_eq!(follower.poll(), Err("gone".to_owned()));
    assert_eq!(follower.poll(), Ok(PollOutcome::Unconfirmed));
    assert_eq!(follower.poll(), Ok(PollOutcome::Value(1)));
}

#[test]
fn without_confirmation_one_look_is_enough() {
    let pace = PollTiming { confirm: None, ..PACE };
    let mut follower = Follower::new(Script::new([Ok("1"), Ok("2"), Ok("2")]), pace);
    assert_eq!(follower.poll(), Ok(PollOutcome::Value(1)));
    assert_eq!(follower.poll(), Ok(PollOutcome::Value(2)));
    assert_eq!(follower.poll(), Ok(PollOutcome::Unchanged));
}

#[test]
fn a_text_file_has_a_limited_size_and_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    fs::write(&path, "12345678").unwrap();
    assert_eq!(text(&path, 8).unwrap().content, "12345678");
    assert_eq!(text(&path, 7).unwrap_err().to_string(), "it is larger than 7 bytes");
    assert_eq!(text(folder.path(), 8).unwrap_err().to_string(), "it is not a file");
}

#[tokio::test]
async fn the_first_value_is_confirmed_too_and_an_error_at_the_start_is_returned() {
    assert_eq!(Follower::new(Script::new([Ok("1"), Ok("12"), Ok("12")]), PACE).first().await, Ok(12));
    let missing = Follower::new(Script::new([Err("gone")]), PACE).first().await;
    assert_eq!(missing, Err("gone".to_owned()));
    let invalid = Follower::new(Script::new([Ok("one")]), PACE).first().await;
    assert_eq!(invalid, Err("`one` is not a number".to_owned()));
}

#[tokio::test]
async fn an_error_is_reported_once_and_what_follows_it_is_reported_too() {
    let script = Script::new([
        Ok("1"),
        Ok("1"),
        // A broken change, for four looks.
        Ok("x"),
        Ok("x"),
        Ok("x"),
        Ok("x"),
        // It is taken back.
        Ok("1"),
        // The same mistake again is a new one. Then the file is missing for two looks.
        Ok("x"),
        Ok("x"),
        Err("gone"),
        Err("gone"),
        Ok("2"),
        Ok("2"),
    ]);
    let (reports, mut seen) = mpsc::unbounded_channel();
    let following = Follower::new(script, PACE);
    let task = tokio::spawn(async move {
        following.follow("the last value stays", |change| reports.send(change).unwrap()).await;
    });
    let failed = |message: &str| Change::Failed(message.to_owned());
    let expected = [
        Change::Value(1),
        failed("`x` is not a number"),
        Change::Restored,
        failed("`x` is not a number"),
        failed("gone"),
        Change::Value(2),
    ];
    for change in expected {
        assert_eq!(seen.recv().await, Some(change));
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(seen.recv().await, None, "nothing else was reported");
}

/// A source that panics.
struct Panics;

impl Source for Panics {
    type Content = ();
    type Value = Infallible;
    type Error = Infallible;

    fn read(&mut self) -> Result<Reading<()>, Infallible> {
        panic!("the source panicked")
    }

    fn parse(&mut self, (): &()) -> Result<Infallible, Infallible> {
        unreachable!("nothing was read")
    }
}

#[tokio::test]
async fn a_panic_of_the_source_is_not_swallowed() {
    let task = tokio::spawn(Follower::new(Panics, PACE).follow("", |_| {}));
    let panic = task.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the source panicked"));
}
