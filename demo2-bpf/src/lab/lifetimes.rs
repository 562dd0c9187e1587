//! Exercise 2: how long do connections from clients live?
//!
//! The client knows of each connection between which two times its life must lie, so the histogram's bars have exact
//! bounds, whatever else the machine does.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh_lab::{CheckContext, Requirement};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::watch::{all_ended, can_watch, watch};
use crate::target::Source;
use crate::trace::Bar;
use crate::{draw, workload};

const FILE: &str = "lifetimes.bt";

/// How long connections are held, in milliseconds.
const HELD: [u64; 3] = [6, 90, 350];

/// What clocks that tick differently may differ by, in milliseconds.
const TICK: f64 = 2.0;

const LIMIT: Duration = Duration::from_secs(20);

/// Between which times a life lies, in milliseconds.
type Life = (f64, f64);

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    can_watch().await?;
    let program = bench.envoy_program().await?;
    let target = Source::Process.target(Some(&program), false, &bench.life).await?;
    let watching = watch(bench, FILE, &[target.listener_port.to_string()]).await?;
    let mut running = JoinSet::new();
    for held in HELD {
        for _ in 0..bench.rng.number(4..=9) {
            running.spawn(live(target.call, Duration::from_millis(held)));
        }
    }
    let mut lives: Vec<Life> = Vec::new();
    // Some with requests, so that there are connections to a backend, which are no client's.
    for _ in 0..bench.rng.number(3..=6) {
        let begun = Instant::now();
        workload::once(target.call).await?;
        lives.push((0.0, millis(begun.elapsed())));
    }
    while let Some(life) = running.join_next().await {
        lives.push(life??);
    }
    all_ended(&target.admin).await?;
    let trace = watching.maps().await?;

    let Some(bars) = trace.histograms.get("life_ms") else {
        let advice = "@life_ms = hist(MILLISECONDS), each time that a connection has ended. An empty map is not printed.";
        let what = "there is a histogram @life_ms";
        return Err(
            Requirement::unmet(what, "@life_ms", "The program left no histogram @life_ms", advice).into()
        );
    };
    let (counted, of) = (trace.counted("life_ms"), lives.len() as u64);
    let advice = if counted > of {
        "A connection within one machine has two ends here, and Envoy has others with its backend. Those from clients \
         have the listener's port ($1) as their own, args->sport."
    } else {
        "One birth is written over the other: while one connection lives others begin. By what are they told apart? \
         args->skaddr is the socket."
    };
    bench.require(
        "each connection from a client is counted once",
        of,
        format!("@life_ms counts {counted} connections of {of}"),
        counted == of,
        advice,
    );
    if counted != of {
        // The bars of too many connections, or of too few, would only be confusing.
        return Ok(());
    }
    let off = (1..40).map(|power| 1_i64 << power).find_map(|from| outside(bars, &lives, from));
    let shown = draw::histogram(bars, "ms")
        .iter()
        .map(|line| format!("\n  {}", line.trim_start()))
        .collect::<String>();
    let longest = lives.iter().map(|(_, most)| *most).fold(0.0, f64::max);
    let too_long =
        bars.iter().any(|bar| bar.count > 0 && bar.min.is_some_and(|min| min as f64 > 4.0 * longest + TICK));
    let (expected, seen) = match &off {
        None => {
            ("bars that fit".to_owned(), format!("All bars of {of} connections fit what the client measured"))
        }
        Some((expected, seen)) => (expected.clone(), format!("{seen}:{shown}")),
    };
    bench.require(
        "the bars are right",
        expected,
        seen,
        off.is_none(),
        if too_long {
            "No connection lived as long as that. nsecs counts nanoseconds: a millisecond has 1,000,000 of them."
        } else {
            "A life begins when the connection is established, and ends when its state is TCP_CLOSE."
        },
    );
    Ok(())
}

/// What is wrong with how many lived for so many milliseconds or longer, if anything is.
fn outside(bars: &[Bar], lives: &[Life], from: i64) -> Option<(String, String)> {
    let counted: u64 =
        bars.iter().filter(|bar| bar.min.is_some_and(|min| min >= from)).map(|bar| bar.count).sum();
    let at_least = lives.iter().filter(|(least, _)| least - TICK >= from as f64).count() as u64;
    let at_most = lives.iter().filter(|(_, most)| most + TICK >= from as f64).count() as u64;
    let well = (at_least..=at_most).contains(&counted);
    let wanted = if at_least == at_most { at_least.to_string() } else { format!("{at_least} to {at_most}") };
    (!well).then(|| (wanted, format!("By @life_ms {counted} connections lived for {from} ms or longer")))
}

/// A connection that is held for so long. Whoever measures is told between which times its life was.
async fn live(to: SocketAddr, held: Duration) -> std::io::Result<Life> {
    let before = Instant::now();
    let mut stream = tokio::time::timeout(LIMIT, TcpStream::connect(to)).await??;
    let open = Instant::now();
    // The life itself.
    tokio::time::sleep(held).await;
    let least = open.elapsed();
    stream.shutdown().await?;
    let mut rest = [0; 16];
    while tokio::time::timeout(LIMIT, stream.read(&mut rest)).await?? > 0 {}
    Ok((millis(least), millis(before.elapsed())))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
