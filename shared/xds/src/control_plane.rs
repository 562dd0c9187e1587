//! A complete control plane: a cache, a server for it, and their event log.
//!
//! For the usual case of one snapshot for all clients, or one for each group. To add the services to a gRPC server of
//! your own, use [`Cache`] and [`Server`] directly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[cfg(feature = "metrics")]
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::{Cache, EVERYONE, OnRejection};
use crate::event_log::{Event, EventFormat, EventKind, EventLog};
use crate::load_reports::LoadReports;
#[cfg(feature = "metrics")]
use crate::metrics::Metrics;
use crate::resource_type::ResourceType;
use crate::server::Server;
use crate::snapshot::Snapshot;

/// How long [`ControlPlane::stop`] waits; the server itself disconnects clients after two seconds.
const GRACE: Duration = Duration::from_secs(5);

/// The control plane's tasks did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("{left} tasks of the control plane still run {GRACE:?} after it was stopped")]
pub struct Overdue {
    left: usize,
}

/// Why a control plane cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The listener has no address.
    #[error("cannot read the address of the control plane's listener")]
    Listener(#[source] std::io::Error),
    /// The metrics cannot be registered.
    #[cfg(feature = "metrics")]
    #[error("cannot register the control plane's metrics")]
    Metrics(#[from] prometheus::Error),
}

/// Why a snapshot does not count as accepted by all clients.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAccepted {
    /// A client rejected it, or did not answer.
    #[error("waited {waited:.1?} for every client's ACK; last seen: {last}")]
    TimedOut {
        /// How long the wait was.
        waited: Duration,
        /// The last rejection, if there was one.
        last: String,
    },
    /// Another snapshot is published now: a newer one, or, after a rejection, the last accepted one.
    #[error("another snapshot replaced it{}", .rejection.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Replaced {
        /// A client's newest rejection of it, if there was one.
        rejection: Option<String>,
    },
}

/// A running control plane.
pub struct ControlPlane {
    cache: Arc<Cache>,
    event_log: EventLog,
    /// The mark of the event log at the last publication.
    published: AtomicU64,
    #[cfg(feature = "metrics")]
    registry: Registry,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl ControlPlane {
    /// Serves xDS on `listener` until `stop` is cancelled. Until the first [`publish`](Self::publish) clients wait.
    ///
    /// The tasks behind it end some time after `stop`: [`ended`](Self::ended) waits for them.
    ///
    /// # Errors
    /// If the listener has no address, or the metrics cannot be registered.
    pub fn start(
        listener: TcpListener,
        on_rejection: OnRejection,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        Self::serve(listener, Cache::default().on_rejection(on_rejection), None, stop)
    }

    /// Like [`start`](Self::start), with a cache of your own, which may have groups, and with load reports, if
    /// `load_reports` is given.
    ///
    /// # Errors
    /// If the listener has no address, or the metrics cannot be registered.
    pub fn serve(
        listener: TcpListener,
        cache: Cache,
        load_reports: Option<LoadReports>,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let address = listener.local_addr().map_err(StartError::Listener)?;
        // Our own token, so that this control plane can be stopped while everything else continues.
        let (stop, tasks) = (stop.child_token(), TaskTracker::new());
        let (cache, event_log) = (Arc::new(cache), EventLog::default());
        let mut server = Server::builder(Arc::clone(&cache), stop.clone()).event_log(event_log.clone());
        #[cfg(feature = "metrics")]
        let registry = Registry::new();
        #[cfg(feature = "metrics")]
        {
            server = server.metrics(Metrics::register(&registry)?);
        }
        if let Some(load_reports) = load_reports {
            server = server.load_reports(load_reports);
        }
        let server = server.build();
        let serving = async move {
            if let Err(error) = server.serve(listener).await {
                tracing::error!(%error, "the control plane ended");
            }
        };
        tasks.spawn(serving);
        tasks.close();
        Ok(Self {
            cache,
            event_log,
            published: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            registry,
            address,
            stop,
            tasks,
        })
    }

    /// Publishes `snapshot` to every client.
    pub fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        self.publish_to(EVERYONE, snapshot)
    }

    /// Publishes `snapshot` to every client of a group.
    pub fn publish_to(&self, group: &str, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        self.published.store(self.event_log.mark(), Ordering::Relaxed);
        self.cache.set(group, Arc::clone(&snapshot));
        snapshot
    }

    /// Waits until every connected client accepted all of `snapshot` that it subscribes to.
    ///
    /// # Errors
    /// If that takes longer than `limit`, or something else was published in the meantime.
    pub async fn accepted(&self, snapshot: &Arc<Snapshot>, limit: Duration) -> Result<(), NotAccepted> {
        self.accepted_by(EVERYONE, snapshot, limit).await
    }

    /// Waits until every connected client of a group, and there is at least one, accepted all of
    /// `snapshot` that it subscribes to.
    ///
    /// # Errors
    /// If that takes longer than `limit`, or something else was published in the meantime.
    pub async fn accepted_by(
        &self,
        group: &str,
        snapshot: &Arc<Snapshot>,
        limit: Duration,
    ) -> Result<(), NotAccepted> {
        let is_it = |other: Option<Arc<Snapshot>>| other.is_some_and(|other| Arc::ptr_eq(&other, snapshot));
        let (begun, mut every) = (Instant::now(), interval(Duration::from_millis(2)));
        let looking = async {
            loop {
                every.tick().await;
                if is_it(self.cache.accepted(group)) {
                    return Ok(());
                }
                if !is_it(self.cache.snapshot(group)) {
                    return Err(NotAccepted::Replaced { rejection: self.last_rejection() });
                }
            }
        };
        timeout(limit, looking).await.unwrap_or_else(|_| {
            let last = self.last_rejection().unwrap_or_else(|| "no answer yet".to_owned());
            Err(NotAccepted::TimedOut { waited: begun.elapsed(), last })
        })
    }

    /// The newest rejection by a client since the last publication, in one sentence.
    pub fn last_rejection(&self) -> Option<String> {
        let mark = self.published.load(Ordering::Relaxed);
        self.event_log.since(mark).iter().rev().find_map(|event| match &event.kind {
            EventKind::Nack { message, .. } => Some(format!("{} rejected: {message}", event.type_name)),
            _ => None,
        })
    }

    /// The cache: the published and the accepted snapshot of each group.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The event log.
    pub fn event_log(&self) -> &EventLog {
        &self.event_log
    }

    /// The server's metrics, for [`metrics::text`](crate::metrics::text).
    #[cfg(feature = "metrics")]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Passes each event to `show` as it happens, as one line.
    pub fn follow_events(&self, format: EventFormat, show: impl Fn(&str) + Send + 'static) {
        let event_log = self.event_log.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut mark = 0;
            while let Some((events, next)) = stop.run_until_cancelled(event_log.next_since(mark)).await {
                mark = next;
                events.iter().for_each(|event| show(&format.line(event)));
            }
            // The streams' ends come while we stop.
            event_log.since(mark).iter().for_each(|event| show(&format.line(event)));
        });
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every stream, closes the port, and returns when both are done.
    ///
    /// # Errors
    /// [`Overdue`] if that takes longer than five seconds.
    pub async fn stop(self) -> Result<EventLog, Overdue> {
        self.stop.cancel();
        let ended = timeout(GRACE, self.tasks.wait()).await;
        ended.map_err(|_| Overdue { left: self.tasks.len() })?;
        Ok(self.event_log)
    }

    /// Waits until every task of this control plane has ended, which they do once it is stopped.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let tasks = self.tasks.clone();
        async move { tasks.wait().await }
    }
}

/// Whether the event is a response of this type.
pub fn is_response(event: &Event, kind: ResourceType) -> bool {
    event.type_name == kind.service() && matches!(event.kind, EventKind::Response { .. })
}

/// Whether the event accepts a response of this type.
pub fn is_ack(event: &Event, kind: ResourceType) -> bool {
    event.type_name == kind.service() && matches!(event.kind, EventKind::Ack { .. })
}
