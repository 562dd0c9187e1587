//! A client that has identified itself: its group, the state of its stream, and its timer.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::time::Instant;

use super::context::ServerContext;
use crate::cache::Watch;
use crate::publication::SyncStatus;
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
    pub(super) eds_deadline: Option<Instant>,
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
            published_at: None,
        }
    }

    /// Makes the newest publication the stream's target. Returns when it was published.
    pub(super) fn take_publication(&mut self) -> Option<std::time::Instant> {
        let newest = self.watch.publications.borrow_and_update().clone()?;
        self.state.on_publication(newest.publication);
        Some(newest.at)
    }

    /// Reports the client's status, and sets the timer for its request for endpoints. Returns whether the status
    /// changed.
    pub(super) fn update_status(&mut self, eds_request_timeout: Duration) -> bool {
        let status = self.state.status();
        if matches!(status, SyncStatus::Synced(_)) {
            self.published_at = None;
        }
        let has_changed = status != self.status;
        if has_changed {
            self.status = status;
            self.watch.report(status);
        }
        self.eds_deadline = match (self.state.is_awaiting_eds(), self.eds_deadline) {
            (false, _) => None,
            (true, Some(deadline)) => Some(deadline),
            (true, None) => Some(Instant::now() + eds_request_timeout),
        };
        has_changed
    }
}
