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
const IN_FLIGHT: usize = 1000;

/// A load that runs until it is stopped, dropped, or its [`Lifecycle`] ends.
#[derive(Debug)]
pub struct Load {
    notes: Arc<Notes>,
    driver: JoinHandle<()>,
    running: DropGuard,
}

/// The calls that have ended, in that order, and a bell for whoever waits for the next one.
#[derive(Debug)]
struct Notes {
    calls: Mutex<Vec<Call>>,
    ended: watch::Sender<usize>,
}

impl Load {
    /// Starts `per_second` calls a second (at least 1), evenly spaced.
    pub fn start(caller: Caller, per_second: u32, life: &Lifecycle) -> Self {
        Self::drive(caller, per_second, usize::MAX, life)
    }

    /// As [`start`](Self::start), but ends by itself after `n` calls; [`finish`](Self::finish) waits for that.
    pub fn of(n: usize, caller: Caller, per_second: u32, life: &Lifecycle) -> Self {
        Self::drive(caller, per_second, n, life)
    }

    fn drive(caller: Caller, per_second: u32, n: usize, life: &Lifecycle) -> Self {
        let notes = Arc::new(Notes { calls: Mutex::default(), ended: watch::Sender::new(0) });
        let running = life.token().child_token();
        let driver = life.spawn(drive(caller, per_second, n, running.clone(), Arc::clone(&notes)));
        Self { notes, driver, running: running.drop_guard() }
    }

    /// How many calls have ended so far.
    pub fn so_far(&self) -> usize {
        self.notes.calls().len()
    }

    /// The calls that have ended so far, in the order of their end.
    pub fn snapshot(&self) -> Vec<Call> {
        self.notes.calls().clone()
    }

    /// When `backend` answered for the first time in this load; waits for it at most `limit`.
    pub async fn first_answer_by(&mut self, backend: &str, limit: Duration) -> Option<Instant> {
        self.first(limit, |call| call.answered_by(backend)).await
    }

    /// When the first call that was sent after `since` and for which `wanted` is true ended; waits for it
    /// at most `limit`.
    pub async fn first_after(
        &mut self,
        since: Instant,
        limit: Duration,
        wanted: impl Fn(&Call) -> bool,
    ) -> Option<Instant> {
        self.first(limit, |call| call.started >= since && wanted(call)).await
    }

    /// Sends no more calls, waits for those in flight, and returns all in the order of their start.
    pub async fn stop(self) -> Vec<Call> {
        drop(self.running);
        Self::all(self.driver, &self.notes).await
    }

    /// Waits until all calls of a load [`of`](Self::of) so many have ended, and returns them.
    pub async fn finish(self) -> Vec<Call> {
        let _running = self.running;
        Self::all(self.driver, &self.notes).await
    }

    async fn all(driver: JoinHandle<()>, notes: &Notes) -> Vec<Call> {
        // It neither panics nor is it aborted; if it were, its notes are still true.
        _ = driver.await;
        let mut calls = std::mem::take(&mut *notes.calls());
        calls.sort_by_key(|call| call.started);
        calls
    }

    async fn first(&self, limit: Duration, wanted: impl Fn(&Call) -> bool) -> Option<Instant> {
        let mut ended = self.notes.ended.subscribe();
        let mut seen = 0;
        let looking = async {
            loop {
                let found = {
                    let calls = self.notes.calls();
                    let found = calls[seen..].iter().find(|call| wanted(call)).map(Call::ended);
                    seen = calls.len();
                    found
                };
                if found.is_some() {
                    return found;
                }
                // The sender lives in the notes, which outlast this borrow.
                ended.changed().await.ok()?;
            }
        };
        tokio::time::timeout(limit, looking).await.ok().flatten()
    }
}

impl Notes {
    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        // A push either happened or not: the list is whole even after a panic elsewhere.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, call: Call) {
        self.calls().push(call);
        self.ended.send_modify(|ended| *ended += 1);
    }
}

async fn drive(caller: Caller, per_second: u32, n: usize, running: CancellationToken, notes: Arc<Notes>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    // A late tick is made up for: the rate holds on average.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let in_flight = TaskTracker::new();
    for _ in 0..n {
        let place = tokio::select! {
            biased;
            () = running.cancelled() => break,
            place = async { ticks.tick().await; Arc::clone(&room).acquire_owned().await } => place,
        };
        let Ok(place) = place else { break };
        let (caller, notes) = (caller.clone(), Arc::clone(&notes));
        in_flight.spawn(async move {
            notes.add(caller.call().await);
            drop(place);
        });
    }
    in_flight.close();
    in_flight.wait().await;
}
