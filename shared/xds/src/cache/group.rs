//! One group of clients: its publications, the status of its clients, and the last snapshot that all accepted.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::watch;

use super::on_rejection::OnRejection;
use crate::lock::lock;
use crate::publication::{Publication, SyncStatus};
use crate::snapshot::Snapshot;

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
    /// Makes number, difference and publication one step: concurrent publishers take turns. Locked before `members`.
    publishing: Mutex<()>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    next_id: u64,
    /// The newest publication's number; 0 before the first.
    seq: u64,
    streams: HashMap<u64, Member>,
    /// How many streams are not synced to `seq`; counted, so that a report needs no scan.
    unsynced: usize,
    /// The number of the last publication that every client accepted, its snapshot, and the one accepted before it.
    accepted_seq: u64,
    accepted: Option<Arc<Snapshot>>,
    accepted_before: Option<Arc<Snapshot>>,
}

/// One stream of a client.
struct Member {
    /// The client's node id; empty if it has none.
    node: Arc<str>,
    status: SyncStatus,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            publications: watch::Sender::new(None),
            publishing: Mutex::default(),
            members: Mutex::default(),
        }
    }
}

impl Group {
    pub(super) fn publish(&self, snapshot: Arc<Snapshot>) -> u64 {
        let _turn = lock(&self.publishing);
        self.publish_next(snapshot)
    }

    /// Publishes, for a caller that holds the lock `publishing`.
    fn publish_next(&self, snapshot: Arc<Snapshot>) -> u64 {
        // Comparing large snapshots takes a while. Clients report their status in the meantime.
        let changes = snapshot.changes_since(&self.current().unwrap_or_default());
        let mut members = lock(&self.members);
        members.seq += 1;
        members.unsynced = members.streams.len();
        let publication = Arc::new(Publication { seq: members.seq, snapshot, changes });
        self.publications.send_replace(Some(TimedPublication { publication, at: Instant::now() }));
        members.seq
    }

    pub(super) fn current(&self) -> Option<Arc<Snapshot>> {
        self.publications.borrow().as_ref().map(|newest| Arc::clone(&newest.publication.snapshot))
    }

    /// The last snapshot that every client accepted.
    pub(super) fn accepted(&self) -> Option<Arc<Snapshot>> {
        lock(&self.members).accepted.clone()
    }

    /// Publishes the last accepted snapshot again, if another one is published and `is_due`.
    fn roll_back_if(&self, is_due: impl FnOnce(&Members) -> bool) -> Option<u64> {
        let _turn = lock(&self.publishing);
        let members = lock(&self.members);
        let accepted = members.accepted.clone().filter(|_| is_due(&members));
        drop(members);
        let accepted = accepted?;
        if self.current().is_some_and(|current| Arc::ptr_eq(&current, &accepted)) {
            return None;
        }
        Some(self.publish_next(accepted))
    }

    pub(super) fn roll_back(&self) -> Option<u64> {
        self.roll_back_if(|_| true)
    }

    /// Rolls back if as many clients as the policy says reject the newest publication.
    pub(super) fn apply(&self, policy: OnRejection) {
        let OnRejection::RollBack { quorum } = policy else { return };
        let seq = self.roll_back_if(|members| {
            let (rejecting, connected) = members.count_clients();
            quorum.is_reached(rejecting, connected)
        });
        if let Some(seq) = seq {
            tracing::warn!(
                "{quorum} or more rejected a snapshot; publication {seq} is the last accepted one again"
            );
        }
    }

    pub(super) fn add_client(&self, node: &str) -> u64 {
        let mut members = lock(&self.members);
        members.next_id += 1;
        members.unsynced += 1;
        let id = members.next_id;
        members.streams.insert(id, Member { node: node.into(), status: SyncStatus::Pending });
        id
    }

    /// Returns whether a client that rejects the newest publication is left.
    pub(super) fn remove_client(&self, id: u64) -> bool {
        let mut members = lock(&self.members);
        let synced = SyncStatus::Synced(members.seq);
        if members.streams.remove(&id).is_some_and(|member| member.status != synced) {
            members.unsynced -= 1;
        }
        members.note_acceptance(|| self.current());
        members.rejecting().next().is_some()
    }

    /// Whether the group has neither a publication nor a client.
    pub(super) fn is_unused(&self) -> bool {
        self.publications.borrow().is_none() && lock(&self.members).streams.is_empty()
    }

    /// Returns whether this is the client's first report that it rejected the newest publication.
    pub(super) fn report(&self, id: u64, status: SyncStatus) -> bool {
        let mut members = lock(&self.members);
        let synced = SyncStatus::Synced(members.seq);
        let Some(member) = members.streams.get_mut(&id) else { return false };
        let before = std::mem::replace(&mut member.status, status);
        match (before == synced, status == synced) {
            (false, true) => members.unsynced -= 1,
            (true, false) => members.unsynced += 1,
            _ => {}
        }
        members.note_acceptance(|| self.current());
        let newly_rejected = status == SyncStatus::Rejected(members.seq) && before != status;
        if newly_rejected && members.accepted_seq == members.seq {
            // A client is new, or had accepted what it subscribed to and then subscribed to more.
            members.accepted_seq = 0;
            members.accepted = members.accepted_before.take();
        }
        newly_rejected
    }
}

impl Members {
    fn note_acceptance(&mut self, current: impl FnOnce() -> Option<Arc<Snapshot>>) {
        if self.unsynced == 0 && !self.streams.is_empty() && self.accepted_seq != self.seq {
            self.accepted_seq = self.seq;
            self.accepted_before = std::mem::replace(&mut self.accepted, current());
        }
    }

    /// The streams on which a client rejects the newest publication.
    fn rejecting(&self) -> impl Iterator<Item = (&u64, &Member)> {
        let rejected = SyncStatus::Rejected(self.seq);
        self.streams.iter().filter(move |(_, member)| member.status == rejected)
    }

    /// How many clients reject the newest publication, and how many are connected. The streams of a node are one
    /// client; a stream without a node id counts as a separate client.
    fn count_clients(&self) -> (usize, usize) {
        fn count<'a>(streams: impl Iterator<Item = (&'a u64, &'a Member)>) -> usize {
            let client = |(id, member): (&u64, &'a Member)| {
                (&*member.node, if member.node.is_empty() { *id } else { 0 })
            };
            streams.map(client).collect::<HashSet<(&str, u64)>>().len()
        }
        (count(self.rejecting()), count(self.streams.iter()))
    }
}
