//! The newest snapshot of each group of clients, published as it changes.
//!
//! State flows one way: a stream watches its group and reports its [`SyncStatus`], from which the cache learns the
//! last snapshot that every client accepted. The cache does not know the protocol.

mod on_rejection;

mod group;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::config::core::v3::Node;
use group::Group;
pub use group::TimedPublication;
pub use on_rejection::{InvalidQuorum, OnRejection, Quorum};
use tokio::sync::watch;

use crate::lock::lock;
use crate::publication::SyncStatus;
use crate::snapshot::Snapshot;

/// The group of every client, by default. [`Cache::grouped`] makes a cache with other groups.
pub const EVERYONE: &str = "";

/// The group has no snapshot to roll back to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("group '{0}' has no earlier snapshot that all of its clients accepted; publish a corrected one")]
pub struct NothingAccepted(String);

type Grouping = Box<dyn Fn(&Node) -> String + Send + Sync>;

/// The newest snapshot of every group.
pub struct Cache {
    grouping: Grouping,
    on_rejection: OnRejection,
    groups: Mutex<HashMap<String, Arc<Group>>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self::grouped(|_| EVERYONE.to_owned())
    }
}

impl Cache {
    /// A cache that shows each client the snapshots of the group which `grouping` names for it.
    pub fn grouped(grouping: impl Fn(&Node) -> String + Send + Sync + 'static) -> Self {
        Self { grouping: Box::new(grouping), on_rejection: OnRejection::default(), groups: Mutex::default() }
    }

    /// Chooses what the cache does when clients reject a snapshot.
    #[must_use]
    pub fn on_rejection(self, on_rejection: OnRejection) -> Self {
        Self { on_rejection, ..self }
    }

    /// Publishes `snapshot` to a group and returns its number.
    pub fn set(&self, group: &str, snapshot: impl Into<Arc<Snapshot>>) -> u64 {
        self.group(group).publish(snapshot.into())
    }

    /// The group's newest snapshot.
    pub fn snapshot(&self, group: &str) -> Option<Arc<Snapshot>> {
        let group = lock(&self.groups).get(group).cloned()?;
        group.current()
    }

    /// The last snapshot that every client of the group accepted.
    pub fn accepted(&self, group: &str) -> Option<Arc<Snapshot>> {
        let group = lock(&self.groups).get(group).cloned()?;
        group.accepted()
    }

    /// Publishes the last snapshot that every client of the group accepted once more.
    ///
    /// # Errors
    /// If there is none, or it is what is published now.
    pub fn roll_back(&self, group: &str) -> Result<u64, NothingAccepted> {
        let nothing = || NothingAccepted(group.to_owned());
        lock(&self.groups).get(group).cloned().ok_or_else(nothing)?.roll_back().ok_or_else(nothing)
    }

    /// Watches the group of this node.
    pub fn watch(self: &Arc<Self>, node: &Node) -> Watch {
        let name = (self.grouping)(node);
        // Under the lock, so that a group cannot be forgotten between the lookup and the start of the watch.
        let mut groups = lock(&self.groups);
        let group = Arc::clone(groups.entry(name.clone()).or_default());
        let id = group.add_client(&node.id);
        drop(groups);
        Watch { publications: group.publications.subscribe(), cache: Arc::clone(self), name, group, id }
    }

    fn group(&self, name: &str) -> Arc<Group> {
        Arc::clone(lock(&self.groups).entry(name.to_owned()).or_default())
    }
}

/// One stream's watch on its group. Dropping it ends the watch.
pub struct Watch {
    /// The group's publications; `None` until the first one.
    pub publications: watch::Receiver<Option<TimedPublication>>,
    cache: Arc<Cache>,
    name: String,
    group: Arc<Group>,
    id: u64,
}

impl Watch {
    /// The group's name.
    pub fn group(&self) -> &str {
        &self.name
    }

    /// Reports the status of the stream's client. Rejections may roll the group back, see [`OnRejection`].
    pub fn report(&self, status: SyncStatus) {
        if self.group.report(self.id, status) {
            self.group.apply(self.cache.on_rejection);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut groups = lock(&self.cache.groups);
        let has_rejections = self.group.remove_client(self.id);
        // A group without a publication and without a client: node ids are the clients' choice, so their groups
        // must not accumulate.
        if self.group.is_unused() {
            groups.remove(&self.name);
        }
        drop(groups);
        if has_rejections {
            // The clients that reject may be a quorum of the remaining ones.
            self.group.apply(self.cache.on_rejection);
        }
    }
}
