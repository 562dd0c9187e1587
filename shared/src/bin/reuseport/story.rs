//! The experiment from start to end: start, ask, count, claim.

use std::net::{Ipv4Addr, SocketAddr};

use shared::cli::Stays;
use shared::lifecycle::Lifecycle;
use shared::ports;
use shared::report::Story;
use shared::reuseport::{Connection, SPREADS, ask};
use shared::stats::Shares;

use crate::instance::{self, Instance};
use crate::{queue, tasks};

/// Fresh connections, as in the experiment that this one repeats.
const REQUESTS: u64 = 300;

/// Connections that are kept, and requests on each.
const KEPT: usize = 4;
const ON_EACH: u64 = 75;

/// A user who is not root.
const NOBODY: &str = "65534";

/// Why shares are not checked on this system.
const ALL_TO_ONE: &str =
    "this system gives all connections of a shared port to one process: macOS to the last one that came";

/// Two servers that stay up.
pub(crate) struct Up {
    address: SocketAddr,
    _servers: [Instance; 2],
}

impl Stays for Up {
    fn invitation(&self) -> String {
        let (address, port) = (self.address, self.address.port());
        format!(
            "foo and bar listen on {address}. Try\n  \
             for i in $(seq 300); do curl -s http://{address}/; done | sort | uniq -c\n  \
             ss -ltnp 'sport = :{port}'\n  \
             cargo run -p shared --bin reuseport -- serve --instance baz --port {port}\n\
             Ctrl-C ends it."
        )
    }
}

/// Tells the story.
pub(crate) async fn tell(stay: bool, story: &mut Story, life: &Lifecycle) -> anyhow::Result<Up> {
    let port = if stay { ports::REUSEPORT } else { 0 };
    let first = Instance::start("foo", (Ipv4Addr::LOCALHOST, port).into(), life).await?;
    let address = first.address;
    let second = two(address, story, life).await?;
    without(address, story).await?;
    kept(address, story).await?;
    joins(address, story, life).await?;
    dies(story, life).await?;
    stranger(address, story).await?;
    listeners(story, life).await?;
    Ok(Up { address, _servers: [first, second] })
}

/// Asks on so many fresh connections.
async fn shares(address: SocketAddr) -> anyhow::Result<Shares> {
    let mut shares = Shares::default();
    for _ in 0..REQUESTS {
        shares.count(&ask(address).await?);
    }
    Ok(shares)
}

/// Claims that these share evenly, where the system spreads connections.
fn claim_even(story: &mut Story, id: &str, claim: &str, names: &[&str], shares: &Shares) {
    let fit = shares.fit_evenly(names.iter().copied());
    let expected = format!("1/{} each, chi² up to {:.2}", names.len(), fit.bound);
    if SPREADS {
        story.claim(id, claim, expected, format!("{shares}; chi² {:.2}", fit.statistic), fit.holds());
    } else {
        story.not_checked(id, claim, expected, format!("{ALL_TO_ONE}; seen: {shares}"));
    }
}

async fn two(address: SocketAddr, story: &mut Story, life: &Lifecycle) -> anyhow::Result<Instance> {
    story.step("Two processes listen on one port");
    let second = Instance::start("bar", address, life).await?;
    let same = second.address == address;
    story.claim("both-listen", "A second process can have the port too", "one address", second.address, same);
    let seen = shares(address).await?;
    claim_even(story, "two", "300 fresh connections are shared evenly", &["foo", "bar"], &seen);
    // Normal approximation of the binomial: half, and 1.96 standard deviations to either side.
    let (half, deviation) = (REQUESTS as f64 / 2.0, (REQUESTS as f64).sqrt() / 2.0);
    let (low, high) = (half - 1.96 * deviation, half + 1.96 * deviation);
    story.tell(format!(
        "a fair coin gives each {low:.0} to {high:.0} in 19 runs of 20; the run that this one repeats saw 160 and 140"
    ));
    Ok(second)
}

async fn without(address: SocketAddr, story: &mut Story) -> anyhow::Result<()> {
    story.step("The same without SO_REUSEPORT");
    let (code, said) = instance::refused("baz", address, &["--alone"]).await?;
    story.tell(format!("baz: {said}"));
    let taken = code == 2 && said.contains("EADDRINUSE");
    story.claim(
        "without",
        "Who does not set it cannot join those who do",
        "EADDRINUSE, exit code 2",
        format!("exit code {code}"),
        taken,
    );
    // Port 0 is free for sure, but its number is known only to whoever has it.
    let first =
        shared::reuseport::listen((Ipv4Addr::LOCALHOST, 0).into(), shared::reuseport::Sharing::Alone)?;
    let (code, said) = instance::refused("baz", first.local_addr()?, &[]).await?;
    let taken = code == 2 && said.contains("EADDRINUSE");
    story.claim(
        "first-alone",
        "And who sets it cannot join one who does not",
        "EADDRINUSE, exit code 2",
        format!("exit code {code}"),
        taken,
    );
    Ok(())
}

async fn kept(address: SocketAddr, story: &mut Story) -> anyhow::Result<()> {
    story.step("A few connections that are kept, with many requests on each");
    let (mut seen, mut moved) = (Shares::default(), 0);
    for _ in 0..KEPT {
        let mut connection = Connection::open(address).await?;
        let first = connection.ask().await?;
        seen.count(&first);
        for _ in 1..ON_EACH {
            let next = connection.ask().await?;
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
    story.tell(format!("{} connections, {} requests: {seen}", KEPT, seen.total()));
    story.tell(format!("by chance all {KEPT} fall to one process in 1 run of {all}"));
    story.tell("a gRPC client keeps one connection: all its calls go to one process, however many there are");
    Ok(())
}

async fn joins(address: SocketAddr, story: &mut Story, life: &Lifecycle) -> anyhow::Result<()> {
    story.step("A third process joins, and leaves");
    let mut old = Connection::open(address).await?;
    let before = old.ask().await?;
    let third = Instance::start("baz", address, life).await?;
    let seen = shares(address).await?;
    claim_even(story, "joins", "Fresh connections are shared by three", &["foo", "bar", "baz"], &seen);
    let after = old.ask().await?;
    story.claim("old-stays", "An open connection does not move to it", &before, &after, before == after);
    third.kill().await;
    let seen = shares(address).await?;
    claim_even(story, "leaves", "When it is gone the others share again", &["foo", "bar"], &seen);
    Ok(())
}

async fn dies(story: &mut Story, life: &Lifecycle) -> anyhow::Result<()> {
    story.step("A process is killed with connections in its queue");
    let lost = "Connections that wait in the queue of a process are lost when it is killed";
    let moved = "With net.ipv4.tcp_migrate_req they move to the others' queues, and are answered";
    let accepted = "Those that it had accepted are lost in spite of that";
    if !cfg!(target_os = "linux") {
        for (id, claim) in [("queue-lost", lost), ("queue-moved", moved), ("accepted-lost", accepted)] {
            story.not_checked(id, claim, "", "needs Linux: its /proc tells who is in a queue");
        }
        return Ok(());
    }
    let seen = queue::run(life).await?;
    story.tell(format!(
        "{} connections were in bar's queue, {} early ones were bar's",
        seen.queued, seen.early_lost
    ));
    story.claim(
        "queue-lost",
        lost,
        format!("the {} in the queue get no answer, all others do", seen.queued),
        format!("{} lost, {} answered", seen.lost, seen.answered),
        seen.lost == seen.queued && seen.queued > 0,
    );
    match queue::run_migrating().await? {
        Ok(seen) => {
            story.claim(
                "queue-moved",
                moved,
                format!("none of the {} in the queue is lost", seen.queued),
                format!("{} lost, {} answered", seen.lost, seen.answered),
                seen.lost == 0 && seen.queued > 0,
            );
            story.claim(
                "accepted-lost",
                accepted,
                "1 or more of 16",
                format!("{} lost", seen.early_lost),
                seen.early_lost > 0,
            );
        }
        Err(why) => {
            story.not_checked("queue-moved", moved, "none is lost", &why);
            story.not_checked("accepted-lost", accepted, "1 or more of 16", &why);
        }
    }
    Ok(())
}

async fn stranger(address: SocketAddr, story: &mut Story) -> anyhow::Result<()> {
    story.step("Another user wants to join");
    let (id, claim) = ("stranger", "A process of another user cannot take a part of the connections");
    let expected = "EADDRINUSE, exit code 2";
    if !cfg!(target_os = "linux") {
        story.not_checked(id, claim, expected, "needs Linux: there a user can be changed for this");
    } else if rustix::process::geteuid().is_root() {
        let (code, said) = instance::refused("stranger", address, &["--user", NOBODY]).await?;
        let taken = code == 2 && said.contains("EADDRINUSE");
        story.claim(id, claim, expected, format!("exit code {code}"), taken);
    } else {
        story.not_checked(id, claim, expected, "needs root, to become somebody else");
    }
    Ok(())
}

async fn listeners(story: &mut Story, life: &Lifecycle) -> anyhow::Result<()> {
    story.step("One process: a listener for all of its tasks, or one for each?");
    let seen = tasks::run(life).await?;
    let names = tasks::names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    story.tell(format!("one listener for all: {}", seen.one));
    claim_even(story, "listeners", "With a listener each the kernel shares evenly", &names, &seen.each);
    let (least, most) = (seen.ratios.first().copied(), seen.ratios.last().copied());
    if let (Some(least), Some(most), Some(median)) = (least, most, seen.ratios.get(tasks::ROUNDS / 2)) {
        story.tell(format!(
            "connections a second, a listener each ÷ one for all: {median:.2} ({least:.2} to {most:.2} in {} rounds)",
            seen.ratios.len()
        ));
    }
    Ok(())
}
