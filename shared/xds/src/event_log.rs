//! The event log: requests, responses and answers of every stream, for readers, reports and tests.
//!
//! It keeps the newest events, each with node, stream, type, version, nonce and names. It never has the content of
//! a resource, so that it cannot contain a secret.

mod name_list;

mod event;

mod format;

mod clients;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use clients::Clients;
pub use clients::{Client, Rejection};
pub(crate) use event::shorten_message;
pub use event::{Event, EventKind};
pub use format::{EventFormat, UnknownFormat};
pub use name_list::NameList;
use tokio::sync::watch;

use crate::lock::lock;
use crate::publication::SyncStatus;
use crate::resource_type::PerType;
use crate::variant::XdsVariant;

/// The newest events of a server. Clones share them.
#[derive(Clone, Debug)]
pub struct EventLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    capacity: usize,
    events: Mutex<VecDeque<Arc<Event>>>,
    clients: Mutex<Clients>,
    /// How many events there ever were.
    count: watch::Sender<u64>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::with_capacity(10_000)
    }
}

impl EventLog {
    /// A log that keeps this many events.
    pub fn with_capacity(capacity: usize) -> Self {
        let (events, clients) = (Mutex::new(VecDeque::new()), Mutex::default());
        Self(Arc::new(Inner {
            started: Instant::now(),
            capacity,
            events,
            clients,
            count: watch::Sender::new(0),
        }))
    }

    /// How many events there ever were: a mark to read from later.
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

    /// Waits for events since `mark`. Returns them with the mark after them, to follow the log.
    pub async fn next_since(&self, mark: u64) -> (Vec<Arc<Event>>, u64) {
        let mut count = self.0.count.subscribe();
        // The sender lives as long as `self`, so there is no error.
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

    /// Waits for the first event since `mark` for which `is_it` is true. Callers should set a timeout.
    pub async fn wait_for(&self, mark: u64, is_it: impl Fn(&Event) -> bool) -> Arc<Event> {
        let mut count = self.0.count.subscribe();
        loop {
            count.borrow_and_update();
            if let Some(event) = self.since(mark).into_iter().find(|event| is_it(event)) {
                return event;
            }
            if count.changed().await.is_err() {
                // `self` holds the sender, so this cannot happen.
                std::future::pending::<()>().await;
            }
        }
    }

    /// How long ago the log started.
    pub fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// The clients whose streams are open, in the order in which they connected.
    pub fn clients(&self) -> Vec<Client> {
        lock(&self.0.clients).list()
    }

    /// Sets a client's status, and the types of which it rejects something.
    pub(crate) fn set_status(&self, stream: u64, status: SyncStatus, rejected: &PerType<bool>) {
        lock(&self.0.clients).set_status(stream, status, rejected);
    }

    pub(crate) fn record(
        &self,
        node: &Arc<str>,
        stream: u64,
        variant: XdsVariant,
        type_name: &str,
        kind: EventKind,
    ) {
        let event = Event {
            time: SystemTime::now(),
            at: self.now(),
            node: Arc::clone(node),
            stream,
            type_name: type_name.to_owned(),
            delta: variant == XdsVariant::Delta,
            kind,
        };
        tracing::debug!(target: "xds", "{event}");
        lock(&self.0.clients).apply(&event);
        let mut events = lock(&self.0.events);
        events.push_back(Arc::new(event));
        if events.len() > self.0.capacity {
            events.pop_front();
        }
        self.0.count.send_modify(|count| *count += 1);
    }
}
