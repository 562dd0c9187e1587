//! A whole control plane, ready to run: a cache, a server over it, and the dialogue of the two.
//!
//! For the usual case of one world that all clients are shown, or one for each group of them. Whoever
//! wants the services inside a gRPC server of their own takes [`Cache`] and [`Server`] by themselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::Registry;
use tokio::net::TcpListener;

use super::cache::{EVERYONE, OnRefusal};
use super::dialogue::{Event, Form, Said};
use super::metrics::Metrics;
use super::{Cache, Dialogue, LoadReports, ResourceType, Server, Snapshot};
use crate::lifecycle::{GRACE, Lifecycle, Overdue};
use crate::poll::{self, TimedOut};

/// Why it is not known that all clients accepted a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// Somebody refused it, or did not answer.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
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
    registry: Registry,
    address: SocketAddr,
    life: Lifecycle,
}

impl ControlPlane {
    /// Serves xDS on `listener`. Until the first [`publish`](Self::publish) clients wait.
    ///
    /// # Errors
    /// If the listener has no address any more.
    pub fn start(listener: TcpListener, on_refusal: OnRefusal, life: &Lifecycle) -> std::io::Result<Self> {
        Self::serve(listener, Cache::default().on_refusal(on_refusal), None, life)
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
        life: &Lifecycle,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        // A scope of its own, so that it can be stopped while everything else goes on.
        let scope = life.child();
        let cache = Arc::new(cache);
        let (dialogue, registry) = (Dialogue::default(), Registry::new());
        let metrics = Metrics::register(&registry).map_err(std::io::Error::other)?;
        let mut server =
            Server::builder(Arc::clone(&cache), scope.token()).dialogue(dialogue.clone()).metrics(metrics);
        if let Some(loads) = loads {
            server = server.loads(loads);
        }
        let server = server.build();
        let serving = async move {
            if let Err(error) = server.serve(listener).await {
                tracing::error!(%error, "the control plane ended");
            }
        };
        scope.spawn(serving);
        Ok(Self { cache, dialogue, published: AtomicU64::new(0), registry, address, life: scope })
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
        poll::wait_until("every client's ACK", Duration::from_millis(2), limit, || {
            std::future::ready(if is_it(self.cache.accepted(group)) {
                Ok(Ok(()))
            } else if is_it(self.cache.snapshot(group)) {
                Err(self.refusal().unwrap_or_else(|| "no answer yet".to_owned()))
            } else {
                Ok(Err(NotAccepted::Replaced { refusal: self.refusal() }))
            })
        })
        .await?
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

    /// What the server counts, for [`metrics::serve`](super::metrics::serve) or a page of one's own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Hands each event to `show` as it happens, as one line.
    pub fn show_dialogue(&self, form: Form, show: impl Fn(&str) + Send + 'static) {
        let dialogue = self.dialogue.clone();
        let stop = self.life.token();
        self.life.spawn(async move {
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
    /// If that takes longer than the usual grace.
    pub async fn stop(self) -> Result<Dialogue, Overdue> {
        self.life.shut_down(GRACE).await?;
        Ok(self.dialogue)
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
