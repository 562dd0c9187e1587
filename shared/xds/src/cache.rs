//! The newest snapshot of each group of clients, published as it changes.
//!
//! State flows one way: a stream watches its group and reports its [`SyncStatus`], from which the cache learns the
//! last snapshot that every client accepted. The cache does not know the protocol.

mod group;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::config::core::v3::Node;
use group::Group;
pub use group::{OnRejection, TimedPublication};
use tokio::sync::watch;

use crate::lock::lock;
use crate::publication::{Quarantine, SyncStatus};
use crate::snapshot::Snapshot;
use crate::version::Version;

/// The group of every client, by default. [`Cache::grouped`] makes a cache with other groups.
pub const EVERYONE: &str = "";

/// How many rejected versions a group remembers. At the limit the set starts anew, so that a client which
/// rejects everything cannot make it grow.
const QUARANTINE_LIMIT: usize = 4096;

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

    /// Chooses what the cache does when a client rejects a snapshot.
    #[must_use]
    pub fn on_rejection(self, on_rejection: OnRejection) -> Self {
        Self { on_rejection, ..self }
    }

    /// Publishes `snapshot` to a group and returns its number.
    ///
    /// A snapshot with a version that the group rejected before counts as rejected immediately: with
    /// [`OnRejection::RollBack`] the last accepted snapshot replaces it.
    pub fn set(&self, group: &str, snapshot: impl Into<Arc<Snapshot>>) -> u64 {
        self.group(group).publish(snapshot.into(), self.on_rejection)
    }

    /// The group's newest snapshot.
    pub fn snapshot(&self, group: &str) -> Option<Arc<Snapshot>> {
        let group = lock(&self.groups).get(group).cloned()?;
        group.current()
    }

    /// The last snapshot that every client of the group accepted.
    pub fn accepted(&self, group: &str) -> Option<Arc<Snapshot>> {
        let group = lock(&self.groups).get(group).cloned()?;
        let members = lock(&group.members);
        members.quarantine.accepted.clone()
    }

    /// Publishes the last snapshot that every client of the group accepted once more.
    ///
    /// # Errors
    /// If there is none, or it is what is published now.
    pub fn roll_back(&self, group: &str) -> Result<u64, NothingAccepted> {
        let nothing = || NothingAccepted(group.to_owned());
        lock(&self.groups).get(group).cloned().ok_or_else(nothing)?.roll_back().ok_or_else(nothing)
    }

    /// Forgets which versions the group rejected, for example after its clients were upgraded, and publishes the
    /// current snapshot again. A stream whose own client rejected a version still does not send it.
    pub fn pardon(&self, group: &str) {
        let group = lock(&self.groups).get(group).cloned();
        if let Some(group) = group {
            group.pardon();
        }
    }

    /// Watches the group of this node.
    pub fn watch(self: &Arc<Self>, node: &Node) -> Watch {
        let name = (self.grouping)(node);
        // Under the lock, so that a group cannot be forgotten between the lookup and the start of the watch.
        let mut groups = lock(&self.groups);
        let group = Arc::clone(groups.entry(name.clone()).or_default());
        let id = group.add_client();
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

    /// The versions that the group rejected.
    pub fn quarantine(&self) -> Arc<Quarantine> {
        Arc::clone(&lock(&self.group.members).quarantine)
    }

    /// Adds versions that this stream's client rejected.
    pub fn quarantine_versions(&self, versions: impl IntoIterator<Item = Version>) {
        let mut members = lock(&self.group.members);
        let quarantined = &mut Arc::make_mut(&mut members.quarantine).versions;
        if quarantined.len() >= QUARANTINE_LIMIT {
            quarantined.clear();
        }
        quarantined.extend(versions.into_iter().take(QUARANTINE_LIMIT));
        self.group.recheck(&mut members);
    }

    /// Reports the status of the stream's client. A rejection may roll the group back.
    pub fn report(&self, status: SyncStatus) {
        let newly_rejected = self.group.report(self.id, status);
        if newly_rejected && self.cache.on_rejection == OnRejection::RollBack {
            // Without an accepted snapshot there is nothing to roll back to.
            _ = self.group.roll_back();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut groups = lock(&self.cache.groups);
        self.group.remove_client(self.id);
        // A group without a publication and without a client: node ids are the clients' choice, so their groups
        // must not accumulate.
        let unused =
            self.group.publications.borrow().is_none() && lock(&self.group.members).status.is_empty();
        if unused {
            groups.remove(&self.name);
        }
    }
}
