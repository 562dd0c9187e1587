//! Who is shown what: for each group of clients the newest snapshot, published as it changes.
//!
//! Knows groups and snapshots. Does not know what a stream says: a stream watches its group, and
//! reports how it stands ([`Standing`]), from which the cache learns the last snapshot that every
//! client accepted.

mod group;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use envoy_types::pb::envoy::config::core::v3::Node;
use group::Group;
use serde::Serialize;
use tokio::sync::watch;

use super::resource::{PerType, Version};
use super::snapshot::Snapshot;

/// The group of every client, unless [`Cache::grouped`] says otherwise.
pub const EVERYONE: &str = "";

/// How many refused versions a group remembers; beyond that the set starts anew, so that a client
/// which refuses everything cannot make it grow.
const QUARANTINE_LIMIT: usize = 4096;

/// A snapshot as it was published to a group.
#[derive(Debug)]
pub struct Published {
    /// Counts the group's publications, from 1. A stream that saw the one before this can go by
    /// `changes` alone.
    pub seq: u64,
    /// When it was published.
    pub at: Instant,
    /// What clients should come to hold.
    pub snapshot: Arc<Snapshot>,
    /// The names that differ from the publication before.
    pub changes: PerType<Vec<Arc<str>>>,
}

/// What the clients of a group refused. It is not sent to anyone in the group again.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    /// The versions that were refused.
    pub versions: HashSet<Version>,
    /// What is shown in their place to a client that has nothing: the last snapshot that all accepted.
    pub accepted: Option<Arc<Snapshot>>,
}

impl Quarantine {
    /// Whether the snapshot has a version that was refused, so that no client is shown all of it.
    ///
    /// Such a snapshot never counts as accepted, whatever its clients say: they are content with what they
    /// were sent, and that was not this.
    pub fn bars(&self, snapshot: &Snapshot) -> bool {
        let refused = |version| self.versions.contains(&version);
        !self.versions.is_empty() && snapshot.resources().any(|resource| refused(resource.version()))
    }
}

/// What happens to a group when one of its clients refuses a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefusal {
    /// Nothing: the client keeps what it has, the owner of the cache decides.
    #[default]
    Keep,
    /// The group goes back to the last snapshot that all of its clients accepted, if there is one.
    RollBack,
}

/// How a stream stands to the newest snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Something is still to be sent or to be answered.
    Busy,
    /// The client accepted all that it is to be sent of the publication with this number: what it subscribed
    /// to, but for what its group refused.
    Settled(u64),
    /// The client refused something of the publication with this number.
    Refused(u64),
}

/// There is no snapshot to go back to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("group '{0}' has no earlier snapshot that all of its clients accepted; publish a corrected one")]
pub struct NothingAccepted(String);

type Grouping = Box<dyn Fn(&Node) -> String + Send + Sync>;

/// The newest snapshot of every group.
pub struct Cache {
    grouping: Grouping,
    on_refusal: OnRefusal,
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
        Self { grouping: Box::new(grouping), on_refusal: OnRefusal::default(), groups: Mutex::default() }
    }

    /// Chooses what a refusal does.
    #[must_use]
    pub fn on_refusal(self, on_refusal: OnRefusal) -> Self {
        Self { on_refusal, ..self }
    }

    /// Publishes `snapshot` to a group and returns its number.
    ///
    /// One that has what the group refused before goes the way of a refused one at once: with
    /// [`OnRefusal::RollBack`] the last accepted snapshot takes its place.
    pub fn set(&self, group: &str, snapshot: impl Into<Arc<Snapshot>>) -> u64 {
        self.group(group).publish(snapshot.into(), self.on_refusal)
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

    /// Forgets which versions the group refused, for example after its clients were upgraded, and shows what
    /// is published once more. A client that still remembers its own refusal is not asked again.
    pub fn pardon(&self, group: &str) {
        let group = lock(&self.groups).get(group).cloned();
        if let Some(group) = group {
            group.pardon();
        }
    }

    /// Lets a stream of this node follow its group.
    pub fn join(self: &Arc<Self>, node: &Node) -> Membership {
        let name = (self.grouping)(node);
        // Under the lock, so that a group cannot be forgotten between being found and being joined.
        let mut groups = lock(&self.groups);
        let group = Arc::clone(groups.entry(name.clone()).or_default());
        let id = group.join();
        drop(groups);
        Membership { publications: group.publications.subscribe(), cache: Arc::clone(self), name, group, id }
    }

    fn group(&self, name: &str) -> Arc<Group> {
        Arc::clone(lock(&self.groups).entry(name.to_owned()).or_default())
    }
}

/// One stream's place in its group; leaving is dropping it.
pub struct Membership {
    /// The group's publications; `None` until the first one.
    pub publications: watch::Receiver<Option<Arc<Published>>>,
    cache: Arc<Cache>,
    name: String,
    group: Arc<Group>,
    id: u64,
}

impl Membership {
    /// The group's name.
    pub fn group(&self) -> &str {
        &self.name
    }

    /// The versions that the group refused.
    pub fn quarantine(&self) -> Arc<Quarantine> {
        Arc::clone(&lock(&self.group.members).quarantine)
    }

    /// Adds versions that this stream's client refused.
    pub fn refuse(&self, versions: impl IntoIterator<Item = Version>) {
        let mut members = lock(&self.group.members);
        let quarantined = &mut Arc::make_mut(&mut members.quarantine).versions;
        if quarantined.len() >= QUARANTINE_LIMIT {
            quarantined.clear();
        }
        quarantined.extend(versions.into_iter().take(QUARANTINE_LIMIT));
        self.group.judge(&mut members);
    }

    /// Tells how the stream stands now. A refusal may roll the group back.
    pub fn report(&self, standing: Standing) {
        let newly_refused = self.group.report(self.id, standing);
        if newly_refused && self.cache.on_refusal == OnRefusal::RollBack {
            // Without an accepted snapshot there is nothing better to show.
            _ = self.group.roll_back();
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut groups = lock(&self.cache.groups);
        self.group.leave(self.id);
        // A group that nobody published to and nobody watches any more: names that strangers made up
        // must not pile up.
        let unused =
            self.group.publications.borrow().is_none() && lock(&self.group.members).standing.is_empty();
        if unused {
            groups.remove(&self.name);
        }
    }
}

/// A panic while the lock was held leaves whole values behind (each is replaced in one step), so a
/// poisoned lock is no reason to stop serving.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
