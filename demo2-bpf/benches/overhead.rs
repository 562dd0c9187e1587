//! What each program costs: requests a second with it, divided by requests a second without.
//!
//! With and without take turns, a second each, so that what else the machine does falls on both alike. As root:
//!
//! ```text
//! cargo bench -p demo2-bpf --bench overhead
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use demo2_bpf::program::Program;
use demo2_bpf::target::{Source, Target};
use demo2_bpf::tracer::Tracer;
use demo2_bpf::{doctor, workload};
use futures::future::try_join_all;
use shared::lifecycle::Lifecycle;
use shared::report::line_out;
use shared::tools;

/// Connections that send at the same time.
const CONNECTIONS: usize = 8;

/// How long each turn takes.
const TURN: Duration = Duration::from_secs(1);

/// Turns with each program, and as many without.
const ROUNDS: usize = 7;

#[tokio::main]
async fn main() -> ExitCode {
    let life = Lifecycle::default();
    let measured = measure(&life).await;
    let ended = life.shut_down(Duration::from_secs(10)).await;
    match measured.and(ended.context("not everything ended")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            line_out(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn measure(life: &Lifecycle) -> anyhow::Result<()> {
    let bpftrace = Path::new("bpftrace");
    if let Some(obstacle) = doctor::obstacle(&doctor::run_check(bpftrace).await) {
        anyhow::bail!("this machine cannot watch its kernel: {obstacle}");
    }
    let envoy = tools::envoy(None).await?;
    let target = Source::Process.target(Some(&envoy), false, life).await?;
    // Warm, so that the first turn is like the others.
    rate(&target).await?;
    line_out("program   req/s without   with   ratio: median   lowest   highest");
    for program in Program::ALL.into_iter().filter(|program| *program != Program::Listen) {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(rate(&target).await?);
            let arguments = target.arguments(program);
            let tracer = Tracer::start(bpftrace, program, &arguments, life).await?;
            let watched = rate(&target).await;
            tracer.stop().await?;
            with.push(watched?);
        }
        let mut ratios: Vec<f64> = with.iter().zip(&without).map(|(with, without)| with / without).collect();
        line_out(&format!(
            "{:<9} {:>13.0} {:>6.0} {:>15.2} {:>8.2} {:>9.2}",
            program.name(),
            median(&mut without),
            median(&mut with),
            median(&mut ratios),
            ratios[0],
            ratios[ROUNDS - 1],
        ));
    }
    Ok(())
}

/// Requests a second over all connections.
async fn rate(target: &Target) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let tasks = (0..CONNECTIONS).map(|_| tokio::spawn(workload::hammer(target.call, begun + TURN)));
    let mut answered = 0;
    for task in try_join_all(tasks).await? {
        answered += task.context("the load broke off")?;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(answered as f64 / begun.elapsed().as_secs_f64())
}

/// Sorts them, and takes the one in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
