//! Where sharing ends: at who does not set the option, at another user, at a process that dies.

use std::net::{Ipv4Addr, SocketAddr};

use shared::lifecycle::Lifecycle;
use shared::report::Recorder;
use shared::reuseport::{Sharing, listen};

use crate::{instance, queue};

/// A user who is not root.
const NOBODY: &str = "65534";

pub(super) async fn without(address: SocketAddr, story: &mut Recorder) -> anyhow::Result<()> {
    story.step("The same without SO_REUSEPORT");
    let (code, said) = instance::refused("baz", address, &["--alone"]).await?;
    story.note(format!("baz: {said}"));
    let taken = code == 2 && said.contains("EADDRINUSE");
    story.claim(
        "without",
        "Who does not set it cannot join those who do",
        "EADDRINUSE, exit code 2",
        format!("exit code {code}"),
        taken,
    );
    // Port 0 is free for sure, but its number is known only to whoever has it.
    let first = listen((Ipv4Addr::LOCALHOST, 0).into(), Sharing::Exclusive)?;
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

pub(super) async fn dies(story: &mut Recorder, life: &Lifecycle) -> anyhow::Result<()> {
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
    story.note(format!(
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

pub(super) async fn stranger(address: SocketAddr, story: &mut Recorder) -> anyhow::Result<()> {
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
