//! A role that runs out of file descriptors because of peers that connect and send nothing.
//!
//! A server that retries a failed `accept` immediately uses a whole core then, and logs nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shared::health;
use shared::poll::wait_until;
use tokio::net::TcpStream;

/// File descriptors of the role.
const DESCRIPTORS: usize = 20;

/// Peers that connect: twice as many as descriptors.
const PEERS: usize = 40;

/// How long the CPU time is measured.
const MEASURED: Duration = Duration::from_secs(2);

/// A generous limit for everything else.
const LIMIT: Duration = Duration::from_secs(60);

/// Clock ticks per second in `/proc/PID/stat`. Source: proc(5); Linux has 100 on every architecture that we run on.
const TICKS: f64 = 100.0;

/// The role, killed when it is dropped.
struct Role(Child);

impl Drop for Role {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Starts a gRPC role with 20 file descriptors, lets 40 silent peers connect, and checks that it waits without using the
/// CPU and serves again once they are gone. `arguments` must make it listen on 127.0.0.1 and print that address first.
///
/// # Panics
/// If any of this does not hold.
pub async fn assert_survives_without_descriptors(program: &str, arguments: &[&str]) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n \"$0\"; exec \"$@\"", &DESCRIPTORS.to_string(), program]).args(arguments);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut role = Role(shell.spawn().expect("sh starts"));
    let address = address(&mut role.0);
    let check = || health::probe(address);
    wait_until("the role to serve", Duration::from_millis(20), LIMIT, check).await.expect("it starts");

    let mut peers = Vec::new();
    for _ in 0..PEERS {
        peers.push(TcpStream::connect(address).await.expect("the kernel accepts into the backlog"));
    }
    let share = cpu_share(role.0.id()).await;
    assert!(share < 0.3, "{program} uses {:.0} % of a core while it cannot accept", share * 100.0);
    drop(peers);
    wait_until("the role to serve again", Duration::from_millis(20), LIMIT, check)
        .await
        .expect("it recovers");
}

/// The first address on loopback that the role prints.
fn address(role: &mut Child) -> SocketAddr {
    let stdout = BufReader::new(role.stdout.take().expect("stdout is a pipe"));
    let mut lines = stdout.lines().map(|line| line.expect("the role prints text"));
    let found = lines.find_map(|line| {
        let words = line.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).map(str::to_owned);
        words.collect::<Vec<_>>().iter().find_map(|word| word.trim_end_matches(['.', ':']).parse().ok())
    });
    found.expect("the role prints its address")
}

/// The share of one core that a process uses.
async fn cpu_share(pid: u32) -> f64 {
    let ticks = || {
        let stat =
            fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        // utime and stime: fields 14 and 15, counted from the process id.
        [fields[11], fields[12]].iter().map(|field| field.parse::<f64>().expect("a number")).sum::<f64>()
    };
    let (before, start) = (ticks(), Instant::now());
    tokio::time::sleep(MEASURED).await;
    (ticks() - before) / TICKS / start.elapsed().as_secs_f64()
}
