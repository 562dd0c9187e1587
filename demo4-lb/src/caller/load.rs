//! A steady load in the background.
//!
//! An open loop: a call starts at its time, whether or not those before it were answered, as calls of
//! independent users do. A closed loop would slow down with a slow server, and hide the trouble.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::lifecycle::Lifecycle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{Call, Caller};

/// The most calls in flight. With none left the load waits: the machine cannot carry what was asked for.
const MAX_IN_FLIGHT: usize = 1000;

/// A load that runs until it is stopped, dropped, or its [`Lifecycle`] ends.
#[derive(Debug)]
pub struct Load {
    log: Arc<CallLog>,
    task: JoinHandle<()>,
    stop: DropGuard,
}

/// The calls that have ended, in that order, and their count to wait on.
#[derive(Debug)]
struct CallLog {
    calls: Mutex<Vec<Call>>,
    completed_count: watch::Sender<usize>,
}

impl Load {
    /// Starts `per_second` calls a second (at least 1), evenly spaced.
    pub fn start(caller: Caller, per_second: u32, life: &Lifecycle) -> Self {
        Self::run(caller, per_second, usize::MAX, life)
    }

    /// Like [`start`](Self::start), but ends after `n` calls; [`finish`](Self::finish) waits for that.
    pub fn with_count(n: usize, caller: Caller, per_second: u32, life: &Lifecycle) -> Self {
        Self::run(caller, per_second, n, life)
    }

    fn run(caller: Caller, per_second: u32, n: usize, life: &Lifecycle) -> Self {
        let log = Arc::new(CallLog { calls: Mutex::default(), completed_count: watch::Sender::new(0) });
        let stop = life.token().child_token();
        let task = life.spawn(run(caller, per_second, n, stop.clone(), Arc::clone(&log)));
        Self { log, task, stop: stop.drop_guard() }
    }

    /// How many calls have ended so far.
    pub fn completed(&self) -> usize {
        self.log.calls().len()
    }

    /// The calls that have ended so far, in the order of their end.
    pub fn completed_calls(&self) -> Vec<Call> {
        self.log.calls().clone()
    }

    /// When `backend` answered for the first time in this load; waits for it at most `limit`.
    pub async fn first_reply_from(&mut self, backend: &str, limit: Duration) -> Option<Instant> {
        self.first_completion(limit, |call| call.answered_by(backend)).await
    }

    /// When the first call that was sent after `since` and for which `predicate` is true ended; waits for it
    /// at most `limit`.
    pub async fn first_matching(
        &mut self,
        since: Instant,
        limit: Duration,
        predicate: impl Fn(&Call) -> bool,
    ) -> Option<Instant> {
        self.first_completion(limit, |call| call.started >= since && predicate(call)).await
    }

    /// Sends no more calls, waits for those in flight, and returns all in the order of their start.
    pub async fn stop(self) -> Vec<Call> {
        drop(self.stop);
        Self::collect(self.task, &self.log).await
    }

    /// Waits until all calls of a load [`with_count`](Self::with_count) have ended, and returns them.
    pub async fn finish(self) -> Vec<Call> {
        let _stop_on_drop = self.stop;
        Self::collect(self.task, &self.log).await
    }

    async fn collect(task: JoinHandle<()>, log: &CallLog) -> Vec<Call> {
        // The task neither panics nor is it aborted; if it did, the calls in the log would still be right.
        _ = task.await;
        let mut calls = std::mem::take(&mut *log.calls());
        calls.sort_by_key(|call| call.started);
        calls
    }

    async fn first_completion(&self, limit: Duration, predicate: impl Fn(&Call) -> bool) -> Option<Instant> {
        let mut completed_count = self.log.completed_count.subscribe();
        let mut seen = 0;
        let search = async {
            loop {
                let result = {
                    let calls = self.log.calls();
                    let result = calls[seen..].iter().find(|call| predicate(call)).map(Call::ended);
                    seen = calls.len();
                    result
                };
                if result.is_some() {
                    return result;
                }
                // The sender is in the log, which outlives this borrow.
                completed_count.changed().await.ok()?;
            }
        };
        tokio::time::timeout(limit, search).await.ok().flatten()
    }
}

impl CallLog {
    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        // A push either happened or not: the list is whole even after a panic elsewhere.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, call: Call) {
        self.calls().push(call);
        self.completed_count.send_modify(|completed_count| *completed_count += 1);
    }
}

async fn run(caller: Caller, per_second: u32, n: usize, stop: CancellationToken, log: Arc<CallLog>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    // A late tick is made up for: the rate holds on average.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let permits = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let in_flight = TaskTracker::new();
    for _ in 0..n {
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            permit = async { ticks.tick().await; Arc::clone(&permits).acquire_owned().await } => permit,
        };
        let Ok(permit) = permit else { break };
        let (caller, log) = (caller.clone(), Arc::clone(&log));
        in_flight.spawn(async move {
            log.add(caller.call().await);
            drop(permit);
        });
    }
    in_flight.close();
    in_flight.wait().await;
}
