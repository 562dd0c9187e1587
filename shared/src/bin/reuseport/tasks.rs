//! One process: a listener that all of its tasks accept from, or a listener for each of them?

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use shared::lifecycle::{GRACE, Lifecycle};
use shared::reuseport::{self, Sharing, request_instance};
use shared::stats::Shares;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How many tasks accept.
pub(crate) const TASKS: usize = 4;

/// Fresh connections in a round, and how many clients open them.
const CONNECTIONS: usize = 400;
const CLIENTS: usize = 4;

/// Rounds of each kind; they take turns.
pub(crate) const ROUNDS: usize = 5;

/// Who accepted how many, and how fast, over all rounds.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) one: Shares,
    pub(crate) each: Shares,
    /// Connections a second with a listener each, divided by those with one; a number a round.
    pub(crate) ratios: Vec<f64>,
}

/// The names that tasks answer with.
pub(crate) fn names() -> Vec<String> {
    (1..=TASKS).map(|task| format!("task-{task}")).collect()
}

/// Measures both, turn by turn.
pub(crate) async fn run(life: &Lifecycle) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    for _ in 0..ROUNDS {
        let one = round(one_listener()?, &mut outcome.one, life).await?;
        let each = round(listener_each()?, &mut outcome.each, life).await?;
        outcome.ratios.push(one.as_secs_f64() / each.as_secs_f64());
    }
    outcome.ratios.sort_by(f64::total_cmp);
    Ok(outcome)
}

/// One socket, and a descriptor of it for each task, as with a server that forks after it listens.
fn one_listener() -> anyhow::Result<Vec<TcpListener>> {
    let first = reuseport::listen((Ipv4Addr::LOCALHOST, 0).into(), Sharing::Exclusive)?.into_std()?;
    let all = (0..TASKS).map(|_| Ok(TcpListener::from_std(first.try_clone()?)?));
    all.collect()
}

/// A socket for each task.
fn listener_each() -> anyhow::Result<Vec<TcpListener>> {
    let first = reuseport::listen((Ipv4Addr::LOCALHOST, 0).into(), Sharing::Shared)?;
    let address = first.local_addr()?;
    let mut all = vec![first];
    for _ in 1..TASKS {
        all.push(reuseport::listen(address, Sharing::Shared)?);
    }
    Ok(all)
}

/// How long all connections of a round take.
async fn round(
    listeners: Vec<TcpListener>,
    shares: &mut Shares,
    life: &Lifecycle,
) -> anyhow::Result<Duration> {
    let scope = life.child();
    let address = listeners[0].local_addr()?;
    for (listener, name) in listeners.into_iter().zip(names()) {
        reuseport::serve(listener, &name, &scope);
    }
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..CONNECTIONS / CLIENTS {
                answers.push(request_instance(address).await?);
            }
            std::io::Result::Ok(answers)
        });
    }
    while let Some(answers) = clients.join_next().await {
        answers??.iter().for_each(|name| shares.count(name));
    }
    let took = began.elapsed();
    scope.shut_down(GRACE).await?;
    Ok(took)
}
