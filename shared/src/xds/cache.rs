//! Who is shown what: for each group of clients the newest snapshot, published as it changes.
//!
//! Knows groups and snapshots. Does not know what a stream says: a stream watches its group, and
//! reports how it stands ([`Standing`]), from which the cache learns the last snapshot that every
//! client accepted.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use envoy_types::pb::envoy::config::core::v3::Node;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Something is still to be sent or to be answered.
    Busy,
    /// The client accepted all that it subscribed to of the publication with this number.
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
    pub fn set(&self, group: &str, snapshot: impl Into<Arc<Snapshot>>) -> u64 {
        self.group(group).publish(snapshot.into())
    }

    /// The group's newest snapshot.
    pub fn snapshot(&self, group: &str) -> Option<Arc<Snapshot>> {
        let group = lock(&self.groups).get(group).cloned()?;
        group.publications.borrow().as_ref().map(|published| Arc::clone(&published.snapshot))
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

    /// Forgets which versions the group refused, for example after its clients were upgraded.
    pub fn pardon(&self, group: &str) {
        if let Some(group) = lock(&self.groups).get(group) {
            Arc::make_mut(&mut lock(&group.members).quarantine).versions.clear();
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

/// A group: what is published to it, and who watches.
struct Group {
    publications: watch::Sender<Option<Arc<Published>>>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    next_id: u64,
    /// The newest publication's number; 0 before the first.
    seq: u64,
    standing: HashMap<u64, Standing>,
    /// How many streams are not settled at `seq`; counted, so that a report costs no scan.
    behind: usize,
    /// The number of the publication that everyone accepted last, and the one accepted before it.
    accepted_seq: u64,
    accepted_before: Option<Arc<Snapshot>>,
    quarantine: Arc<Quarantine>,
}

impl Default for Group {
    fn default() -> Self {
        Self { publications: watch::Sender::new(None), members: Mutex::default() }
    }
}

impl Group {
    fn publish(&self, snapshot: Arc<Snapshot>) -> u64 {
        // The lock makes number, difference and publication one step: concurrent publishers take turns.
        let mut members = lock(&self.members);
        self.publish_locked(&mut members, snapshot)
    }

    fn publish_locked(&self, members: &mut Members, snapshot: Arc<Snapshot>) -> u64 {
        members.seq += 1;
        members.behind = members.standing.len();
        let before = self.publications.borrow().as_ref().map(|published| Arc::clone(&published.snapshot));
        let changes = snapshot.changes_since(&before.unwrap_or_default());
        let published = Published { seq: members.seq, at: Instant::now(), snapshot, changes };
        self.publications.send_replace(Some(Arc::new(published)));
        members.seq
    }

    fn roll_back(&self) -> Option<u64> {
        let mut members = lock(&self.members);
        let accepted = members.quarantine.accepted.clone()?;
        let current = self.publications.borrow().as_ref().map(|published| Arc::clone(&published.snapshot));
        if current.is_some_and(|current| Arc::ptr_eq(&current, &accepted)) {
            return None;
        }
        Some(self.publish_locked(&mut members, accepted))
    }

    fn join(&self) -> u64 {
        let mut members = lock(&self.members);
        members.next_id += 1;
        members.behind += 1;
        let id = members.next_id;
        members.standing.insert(id, Standing::Busy);
        id
    }

    fn leave(&self, id: u64) {
        let mut members = lock(&self.members);
        let settled = Standing::Settled(members.seq);
        if members.standing.remove(&id).is_some_and(|standing| standing != settled) {
            members.behind -= 1;
        }
        self.note_acceptance(&mut members);
    }

    /// Returns whether this is news of a refusal of the newest publication.
    fn report(&self, id: u64, standing: Standing) -> bool {
        let mut members = lock(&self.members);
        let settled = Standing::Settled(members.seq);
        let Some(known) = members.standing.get_mut(&id) else { return false };
        let before = std::mem::replace(known, standing);
        match (before == settled, standing == settled) {
            (false, true) => members.behind -= 1,
            (true, false) => members.behind += 1,
            _ => {}
        }
        self.note_acceptance(&mut members);
        let newly_refused = standing == Standing::Refused(members.seq) && before != standing;
        if newly_refused && members.accepted_seq == members.seq {
            // A client that seemed content with what it had asked for so far asked for more.
            members.accepted_seq = 0;
            let before = members.accepted_before.take();
            Arc::make_mut(&mut members.quarantine).accepted = before;
        }
        newly_refused
    }

    fn note_acceptance(&self, members: &mut Members) {
        let everyone = members.behind == 0 && !members.standing.is_empty();
        if everyone && members.accepted_seq != members.seq {
            members.accepted_seq = members.seq;
            let current =
                self.publications.borrow().as_ref().map(|published| Arc::clone(&published.snapshot));
            let quarantine = Arc::make_mut(&mut members.quarantine);
            members.accepted_before = std::mem::replace(&mut quarantine.accepted, current);
        }
    }
}

/// A panic while the lock was held leaves whole values behind (each is replaced in one step), so a
/// poisoned lock is no reason to stop serving.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
