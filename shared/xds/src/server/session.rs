//! A client that has identified itself: its group, the state of its stream, and its timer.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::time::Instant;

use super::context::ServerContext;
use crate::cache::Watch;
use crate::publication::SyncStatus;
use crate::resource_type::PerType;
use crate::stream_state::StreamState;
use crate::variant::XdsVariant;

/// How much of a node id is kept, in characters.
const NODE_ID_KEPT: usize = 200;

/// What the server keeps of a client from its first request on.
pub(super) struct Session {
    pub(super) watch: Watch,
    pub(super) state: StreamState,
    pub(super) node: Arc<str>,
    pub(super) status: SyncStatus,
    /// When the server stops waiting for the client to request endpoints.
    eds_deadline: Option<Instant>,
    /// When it stops waiting for the answer to a response with secrets, and the nonce of that response.
    secrets_deadline: Option<(u64, Instant)>,
    /// The types of which the client rejected something, as last reported.
    pub(super) rejected: PerType<bool>,
    /// When the publication was published that the client is being sent. None once the client is synced.
    pub(super) published_at: Option<std::time::Instant>,
}

impl Session {
    /// Starts a session for this node, in the group that the cache chooses for it.
    pub(super) fn start(context: &ServerContext, node: &Node, variant: XdsVariant) -> Self {
        let id = if node.id.is_empty() { "(no node id)" } else { &node.id };
        Self {
            watch: context.cache.watch(node),
            state: StreamState::new(variant, (context.quirks)(node)),
            node: id.chars().take(NODE_ID_KEPT).collect::<String>().into(),
            status: SyncStatus::Pending,
            eds_deadline: None,
            secrets_deadline: None,
            rejected: PerType::default(),
            published_at: None,
        }
    }

    /// Makes the newest publication the stream's target. Returns when it was published.
    pub(super) fn take_publication(&mut self) -> Option<std::time::Instant> {
        let newest = self.watch.publications.borrow_and_update().clone()?;
        self.state.on_publication(newest.publication);
        Some(newest.at)
    }

    /// Reports the client's status, and sets the timers. Returns whether the status, or the types of which the client
    /// rejected something, changed.
    pub(super) fn update_status(&mut self, dependency_timeout: Duration) -> bool {
        let status = self.state.status();
        if matches!(status, SyncStatus::Synced(_)) {
            self.published_at = None;
        }
        let rejected = self.state.rejected_types();
        let has_changed = status != self.status || rejected != self.rejected;
        self.rejected = rejected;
        if status != self.status {
            self.status = status;
            self.watch.report(status);
        }
        self.eds_deadline = match (self.state.is_awaiting_eds(), self.eds_deadline) {
            (false, _) => None,
            (true, Some(deadline)) => Some(deadline),
            (true, None) => Some(Instant::now() + dependency_timeout),
        };
        self.secrets_deadline = match (self.state.awaited_secrets(), self.secrets_deadline) {
            (Some(nonce), Some((awaited, deadline))) if nonce == awaited => Some((awaited, deadline)),
            (awaited, _) => awaited.map(|nonce| (nonce, Instant::now() + dependency_timeout)),
        };
        has_changed
    }

    /// When the next timer is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.eds_deadline, self.secrets_deadline.map(|(_, deadline)| deadline)];
        deadlines.into_iter().flatten().min()
    }

    /// Stops the waits whose timers are due.
    pub(super) fn stop_overdue_waits(&mut self) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= Instant::now());
        if is_due(self.eds_deadline) {
            tracing::info!(node = %self.node, "does not request the endpoints of its clusters");
            self.state.stop_awaiting_eds();
        }
        if is_due(self.secrets_deadline.map(|(_, deadline)| deadline)) {
            tracing::info!(node = %self.node, "does not answer a response with secrets");
            self.state.stop_awaiting_secrets();
        }
    }
}
