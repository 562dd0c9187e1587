//! How connections are shared: by two, by those that are kept, by who joins and leaves, by tasks.

use std::net::SocketAddr;

use shared::lifecycle::Lifecycle;
use shared::report::Recorder;
use shared::reuseport::Connection;
use shared::stats::Shares;

use super::shares::{REQUESTS, claim_even, shares};
use crate::instance::Instance;
use crate::tasks;

/// Connections that are kept, and requests on each.
const KEPT: usize = 4;
const ON_EACH: u64 = 75;

pub(super) async fn two(
    address: SocketAddr,
    story: &mut Recorder,
    life: &Lifecycle,
) -> anyhow::Result<Instance> {
    story.step("Two processes listen on one port");
    let second = Instance::start("bar", address, life).await?;
    let same = second.address == address;
    story.claim("both-listen", "A second process can have the port too", "one address", second.address, same);
    let seen = shares(address).await?;
    claim_even(story, "two", "300 fresh connections are shared evenly", &["foo", "bar"], &seen);
    // Normal approximation of the binomial: half, and 1.96 standard deviations to either side.
    let (half, deviation) = (REQUESTS as f64 / 2.0, (REQUESTS as f64).sqrt() / 2.0);
    let (low, high) = (half - 1.96 * deviation, half + 1.96 * deviation);
    story.note(format!(
        "a fair coin gives each {low:.0} to {high:.0} in 19 runs of 20; the run that this one repeats saw 160 and 140"
    ));
    Ok(second)
}

pub(super) async fn kept(address: SocketAddr, story: &mut Recorder) -> anyhow::Result<()> {
    story.step("A few connections that are kept, with many requests on each");
    let (mut seen, mut moved) = (Shares::default(), 0);
    for _ in 0..KEPT {
        let mut connection = Connection::open(address).await?;
        let first = connection.request_instance().await?;
        seen.count(&first);
        for _ in 1..ON_EACH {
            let next = connection.request_instance().await?;
            moved += u64::from(next != first);
            seen.count(&next);
        }
    }
    story.claim(
        "kept",
        "A connection stays with who accepted it, whatever is asked on it",
        "no request moves",
        format!("{moved} of {} moved", seen.total()),
        moved == 0,
    );
    let all = 2_u64.pow(u32::try_from(KEPT)? - 1);
    story.note(format!("{} connections, {} requests: {seen}", KEPT, seen.total()));
    story.note(format!("by chance all {KEPT} fall to one process in 1 run of {all}"));
    story.note("a gRPC client keeps one connection: all its calls go to one process, however many there are");
    Ok(())
}

pub(super) async fn joins(address: SocketAddr, story: &mut Recorder, life: &Lifecycle) -> anyhow::Result<()> {
    story.step("A third process joins, and leaves");
    let mut old = Connection::open(address).await?;
    let before = old.request_instance().await?;
    let third = Instance::start("baz", address, life).await?;
    let seen = shares(address).await?;
    claim_even(story, "joins", "Fresh connections are shared by three", &["foo", "bar", "baz"], &seen);
    let after = old.request_instance().await?;
    story.claim("old-stays", "An open connection does not move to it", &before, &after, before == after);
    third.kill().await;
    let seen = shares(address).await?;
    claim_even(story, "leaves", "When it is gone the others share again", &["foo", "bar"], &seen);
    Ok(())
}

pub(super) async fn listeners(story: &mut Recorder, life: &Lifecycle) -> anyhow::Result<()> {
    story.step("One process: a listener for all of its tasks, or one for each?");
    let seen = tasks::run(life).await?;
    let names = tasks::names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    story.note(format!("one listener for all: {}", seen.one));
    claim_even(story, "listeners", "With a listener each the kernel shares evenly", &names, &seen.each);
    let (least, most) = (seen.ratios.first().copied(), seen.ratios.last().copied());
    if let (Some(least), Some(most), Some(median)) = (least, most, seen.ratios.get(tasks::ROUNDS / 2)) {
        story.note(format!(
            "connections a second, a listener each ÷ one for all: {median:.2} ({least:.2} to {most:.2} in {} rounds)",
            seen.ratios.len()
        ));
    }
    Ok(())
}
