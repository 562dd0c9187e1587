//! One group of clients: its publications, the status of its clients, and the last snapshot that all accepted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::watch;

use crate::lock::lock;
use crate::publication::{Publication, Quarantine, SyncStatus};
use crate::snapshot::Snapshot;

/// What happens to a group when one of its clients rejects a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnRejection {
    /// Nothing: the client keeps what it has, the owner of the cache decides.
    #[default]
    Keep,
    /// The group goes back to the last snapshot that all of its clients accepted, if there is one.
    RollBack,
}

/// A publication, and when it was published.
#[derive(Clone, Debug)]
pub struct TimedPublication {
    /// The publication.
    pub publication: Arc<Publication>,
    /// When it was published.
    pub at: Instant,
}

/// A group: its publications, and the clients that watch them.
pub(super) struct Group {
    pub(super) publications: watch::Sender<Option<TimedPublication>>,
    pub(super) members: Mutex<Members>,
}

#[derive(Default)]
pub(super) struct Members {
    next_id: u64,
    /// The newest publication's number; 0 before the first.
    seq: u64,
    pub(super) status: HashMap<u64, SyncStatus>,
    /// How many streams are not synced to `seq`; counted, so that a report needs no scan.
    unsynced: usize,
    /// The number of the last publication that every client accepted, and the snapshot accepted before it.
    accepted_seq: u64,
    accepted_before: Option<Arc<Snapshot>>,
    pub(super) quarantine: Arc<Quarantine>,
    /// Whether the newest publication has a version that the group rejected.
    barred: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self { publications: watch::Sender::new(None), members: Mutex::default() }
    }
}

impl Group {
    pub(super) fn publish(&self, snapshot: Arc<Snapshot>, on_rejection: OnRejection) -> u64 {
        // The lock makes number, difference and publication one step: concurrent publishers take turns.
        let mut members = lock(&self.members);
        let seq = self.publish_locked(&mut members, snapshot);
        if members.barred
            && on_rejection == OnRejection::RollBack
            && self.roll_back_locked(&mut members).is_some()
        {
            tracing::warn!(
                "a snapshot has a version that was rejected before; rolling back to the last accepted one"
            );
        }
        seq
    }

    fn publish_locked(&self, members: &mut Members, snapshot: Arc<Snapshot>) -> u64 {
        members.seq += 1;
        members.unsynced = members.status.len();
        let changes = snapshot.changes_since(&self.current().unwrap_or_default());
        members.barred = members.quarantine.bars(&snapshot);
        let publication = Arc::new(Publication { seq: members.seq, snapshot, changes });
        self.publications.send_replace(Some(TimedPublication { publication, at: Instant::now() }));
        members.seq
    }

    pub(super) fn current(&self) -> Option<Arc<Snapshot>> {
        self.publications.borrow().as_ref().map(|newest| Arc::clone(&newest.publication.snapshot))
    }

    pub(super) fn roll_back(&self) -> Option<u64> {
        self.roll_back_locked(&mut lock(&self.members))
    }

    fn roll_back_locked(&self, members: &mut Members) -> Option<u64> {
        let accepted = members.quarantine.accepted.clone()?;
        if self.current().is_some_and(|current| Arc::ptr_eq(&current, &accepted)) {
            return None;
        }
        Some(self.publish_locked(members, accepted))
    }

    pub(super) fn pardon(&self) {
        let mut members = lock(&self.members);
        Arc::make_mut(&mut members.quarantine).versions.clear();
        if let Some(current) = self.current() {
            // A gap in the numbers makes streams look at every name again, including names that they skipped.
            members.seq += 1;
            self.publish_locked(&mut members, current);
        }
    }

    /// Checks the published and the accepted snapshot against a quarantine that has grown.
    pub(super) fn recheck(&self, members: &mut Members) {
        members.barred = self.current().is_some_and(|current| members.quarantine.bars(&current));
        let is_barred = |quarantine: &Quarantine| {
            quarantine.accepted.as_ref().is_some_and(|accepted| quarantine.bars(accepted))
        };
        if is_barred(&members.quarantine) {
            // A client subscribed to more, or is new: the snapshot is accepted no longer.
            members.accepted_seq = 0;
            let before = members.accepted_before.take();
            let quarantine = Arc::make_mut(&mut members.quarantine);
            quarantine.accepted = before.filter(|before| !quarantine.bars(before));
        }
    }

    pub(super) fn add_client(&self) -> u64 {
        let mut members = lock(&self.members);
        members.next_id += 1;
        members.unsynced += 1;
        let id = members.next_id;
        members.status.insert(id, SyncStatus::Pending);
        id
    }

    pub(super) fn remove_client(&self, id: u64) {
        let mut members = lock(&self.members);
        let synced = SyncStatus::Synced(members.seq);
        if members.status.remove(&id).is_some_and(|status| status != synced) {
            members.unsynced -= 1;
        }
        self.note_acceptance(&mut members);
    }

    /// Returns whether this is the client's first report that it rejected the newest publication.
    pub(super) fn report(&self, id: u64, status: SyncStatus) -> bool {
        let mut members = lock(&self.members);
        let synced = SyncStatus::Synced(members.seq);
        let Some(known) = members.status.get_mut(&id) else { return false };
        let before = std::mem::replace(known, status);
        match (before == synced, status == synced) {
            (false, true) => members.unsynced -= 1,
            (true, false) => members.unsynced += 1,
            _ => {}
        }
        self.note_acceptance(&mut members);
        let newly_rejected = status == SyncStatus::Rejected(members.seq) && before != status;
        if newly_rejected && members.accepted_seq == members.seq {
            // The client had accepted what it subscribed to, and then subscribed to more.
            members.accepted_seq = 0;
            let before = members.accepted_before.take();
            Arc::make_mut(&mut members.quarantine).accepted = before;
        }
        newly_rejected
    }

    fn note_acceptance(&self, members: &mut Members) {
        let all_synced = members.unsynced == 0 && !members.status.is_empty();
        if all_synced && !members.barred && members.accepted_seq != members.seq {
            members.accepted_seq = members.seq;
            let current = self.current();
            let quarantine = Arc::make_mut(&mut members.quarantine);
            members.accepted_before = std::mem::replace(&mut quarantine.accepted, current);
        }
    }
}
