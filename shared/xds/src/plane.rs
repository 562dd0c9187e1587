//! A whole control plane, ready to run: a cache, a server over it, and the dialogue of the two.
//!
//! For the usual case of one world that all clients are shown, or one for each group of them. Whoever
//! wants the services inside a gRPC server of their own takes [`Cache`] and [`Server`] by themselves.

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

use super::cache::{EVERYONE, OnRefusal};
use super::dialogue::{Event, Form, Said};
#[cfg(feature = "metrics")]
use super::metrics::Metrics;
use super::{Cache, Dialogue, LoadReports, ResourceType, Server, Snapshot};

/// How long [`ControlPlane::stop`] waits; the server itself cuts clients off after two seconds.
const GRACE: Duration = Duration::from_secs(5);

/// The control plane's tasks did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("{left} tasks of the control plane still run {GRACE:?} after it was stopped")]
pub struct Overdue {
    left: usize,
}

/// Why it is not known that all clients accepted a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// A client rejected it, or did not answer.
    #[error("waited {waited:.1?} for every client's ACK; last seen: {last}")]
    TimedOut {
        /// How long that was waited for.
        waited: Duration,
        /// What clients had said until then.
        last: String,
    },
    /// Something else is published now: a newer snapshot, or, after a refusal, the last accepted one.
    #[error("another snapshot took its place{}", .refusal.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Replaced {
        /// The newest complaint of a client about it, if there was one.
        refusal: Option<String>,
    },
}

/// A running control plane.
pub struct ControlPlane {
    cache: Arc<Cache>,
    dialogue: Dialogue,
    /// Where the dialogue was when something was published last.
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
    /// If the listener has no address any more.
    pub fn start(
        listener: TcpListener,
        on_refusal: OnRefusal,
        stop: &CancellationToken,
    ) -> std::io::Result<Self> {
        Self::serve(listener, Cache::default().on_refusal(on_refusal), None, stop)
    }

    /// As [`start`](Self::start), but over a cache of one's own, which may have groups; and takes load
    /// reports, if `loads` are given.
    ///
    /// # Errors
    /// If the listener has no address any more.
    pub fn serve(
        listener: TcpListener,
        cache: Cache,
        loads: Option<LoadReports>,
        stop: &CancellationToken,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        // Our own token, so that this control plane can be stopped while everything else continues.
        let (stop, tasks) = (stop.child_token(), TaskTracker::new());
        let (cache, dialogue) = (Arc::new(cache), Dialogue::default());
        let mut server = Server::builder(Arc::clone(&cache), stop.clone()).dialogue(dialogue.clone());
        #[cfg(feature = "metrics")]
        let registry = Registry::new();
        #[cfg(feature = "metrics")]
        {
            server = server.metrics(Metrics::register(&registry).map_err(std::io::Error::other)?);
        }
        if let Some(loads) = loads {
            server = server.loads(loads);
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
            dialogue,
            published: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            registry,
            address,
            stop,
            tasks,
        })
    }

    /// Shows `snapshot` to every client from now on.
    pub fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        self.publish_to(EVERYONE, snapshot)
    }

    /// Shows `snapshot` to every client of a group from now on.
    pub fn publish_to(&self, group: &str, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        self.published.store(self.dialogue.mark(), Ordering::Relaxed);
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
                    return Err(NotAccepted::Replaced { refusal: self.refusal() });
                }
            }
        };
        timeout(limit, looking).await.unwrap_or_else(|_| {
            let last = self.refusal().unwrap_or_else(|| "no answer yet".to_owned());
            Err(NotAccepted::TimedOut { waited: begun.elapsed(), last })
        })
    }

    /// The newest complaint of a client since something was published last, in one sentence.
    pub fn refusal(&self) -> Option<String> {
        let mark = self.published.load(Ordering::Relaxed);
        self.dialogue.since(mark).iter().rev().find_map(|event| match &event.said {
            Said::Nack { message, .. } => Some(format!("{} refused: {message}", event.kind)),
            _ => None,
        })
    }

    /// What clients are shown, and what they accepted.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// What was said so far.
    pub fn dialogue(&self) -> &Dialogue {
        &self.dialogue
    }

    /// What the server counts, for [`metrics::text`](super::metrics::text).
    #[cfg(feature = "metrics")]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Hands each event to `show` as it happens, as one line.
    pub fn show_dialogue(&self, form: Form, show: impl Fn(&str) + Send + 'static) {
        let dialogue = self.dialogue.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut mark = 0;
            while let Some((events, next)) = stop.run_until_cancelled(dialogue.next_since(mark)).await {
                mark = next;
                events.iter().for_each(|event| show(&form.line(event)));
            }
            // The streams' ends come while we stop.
            dialogue.since(mark).iter().for_each(|event| show(&form.line(event)));
        });
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every stream, closes the port, and returns when both are done.
    ///
    /// # Errors
    /// [`Overdue`] if that takes longer than five seconds.
    pub async fn stop(self) -> Result<Dialogue, Overdue> {
        self.stop.cancel();
        let ended = timeout(GRACE, self.tasks.wait()).await;
        ended.map_err(|_| Overdue { left: self.tasks.len() })?;
        Ok(self.dialogue)
    }

    /// Waits until every task of this control plane has ended, which they do once it is stopped.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let tasks = self.tasks.clone();
        async move { tasks.wait().await }
    }
}

/// Whether the event is a response of this type.
pub fn is_sent(event: &Event, kind: ResourceType) -> bool {
    event.kind == kind.service() && matches!(event.said, Said::Sent { .. })
}

/// Whether the event accepts a response of this type.
pub fn is_ack(event: &Event, kind: ResourceType) -> bool {
    event.kind == kind.service() && matches!(event.said, Said::Ack { .. })
}
