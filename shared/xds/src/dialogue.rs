//! What clients and server said to each other: for people, for reports, for tests.
//!
//! Keeps the newest events, each with node, stream, type, version, nonce and names. Never what a
//! resource holds, so that no secret can get here.

mod event;

mod clients;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

pub use clients::Client;
pub(super) use event::complaint;
pub use event::{Event, Form, Names, Said, UnknownForm};
use tokio::sync::watch;

use super::frame::Dialect;

/// The newest events of a server. Clones share them.
#[derive(Clone, Debug)]
pub struct Dialogue(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    begun: Instant,
    capacity: usize,
    events: Mutex<VecDeque<Arc<Event>>>,
    clients: Mutex<BTreeMap<u64, Client>>,
    /// How many events there ever were.
    count: watch::Sender<u64>,
}

impl Default for Dialogue {
    fn default() -> Self {
        Self::keeping(10_000)
    }
}

impl Dialogue {
    /// A dialogue that keeps this many events.
    pub fn keeping(capacity: usize) -> Self {
        let (events, clients) = (Mutex::new(VecDeque::new()), Mutex::default());
        Self(Arc::new(Kept {
            begun: Instant::now(),
            capacity,
            events,
            clients,
            count: watch::Sender::new(0),
        }))
    }

    /// How many events there ever were: a place to look from, later.
    pub fn mark(&self) -> u64 {
        *self.0.count.borrow()
    }

    /// The events since a [`mark`](Self::mark) that are still kept, oldest first.
    pub fn since(&self, mark: u64) -> Vec<Arc<Event>> {
        let events = lock(&self.0.events);
        let count = self.mark();
        let wanted = usize::try_from(count.saturating_sub(mark)).unwrap_or(usize::MAX);
        events.iter().skip(events.len().saturating_sub(wanted)).cloned().collect()
    }

    /// Waits for events since `mark` and returns them with the mark behind them, for following along.
    pub async fn next_since(&self, mark: u64) -> (Vec<Arc<Event>>, u64) {
        let mut count = self.0.count.subscribe();
        // The sender lives as long as we do, so that an error cannot come.
        _ = count.wait_for(|count| *count > mark).await;
        let events = lock(&self.0.events);
        let count = self.mark();
        let wanted = usize::try_from(count - mark).unwrap_or(usize::MAX);
        (events.iter().skip(events.len().saturating_sub(wanted)).cloned().collect(), count)
    }

    /// All events that are kept, oldest first.
    pub fn events(&self) -> Vec<Arc<Event>> {
        self.since(0)
    }

    /// Waits for the first event since `mark` that `is_it`; bound it with a timeout.
    pub async fn wait_for(&self, mark: u64, is_it: impl Fn(&Event) -> bool) -> Arc<Event> {
        let mut count = self.0.count.subscribe();
        loop {
            count.borrow_and_update();
            if let Some(event) = self.since(mark).into_iter().find(|event| is_it(event)) {
                return event;
            }
            if count.changed().await.is_err() {
                // We hold the sender ourselves, so this cannot happen; waiting is right all the same.
                std::future::pending::<()>().await;
            }
        }
    }

    /// How long ago the dialogue began.
    pub fn now(&self) -> Duration {
        self.0.begun.elapsed()
    }

    pub(super) fn record(&self, node: &Arc<str>, stream: u64, dialect: Dialect, kind: &str, said: Said) {
        let event = Event {
            time: SystemTime::now(),
            at: self.now(),
            node: Arc::clone(node),
            stream,
            kind: kind.to_owned(),
            delta: dialect == Dialect::Delta,
            said,
        };
        tracing::debug!(target: "xds", "{event}");
        self.note(&event);
        let mut events = lock(&self.0.events);
        events.push_back(Arc::new(event));
        if events.len() > self.0.capacity {
            events.pop_front();
        }
        self.0.count.send_modify(|count| *count += 1);
    }
}

/// Each event and each client is replaced in one step, so a poisoned lock is no reason to fall silent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
