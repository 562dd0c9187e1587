//! One group of clients: what is published to it, who watches, and what all of them accepted.
//!
//! Knows numbers and standings. Does not know which clients make a group, nor what a stream says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::watch;

use super::super::snapshot::Snapshot;
use super::{OnRefusal, Published, Quarantine, Standing, lock};

/// A group: what is published to it, and who watches.
pub(super) struct Group {
    pub(super) publications: watch::Sender<Option<Arc<Published>>>,
    pub(super) members: Mutex<Members>,
}

#[derive(Default)]
pub(super) struct Members {
    next_id: u64,
    /// The newest publication's number; 0 before the first.
    seq: u64,
    pub(super) standing: HashMap<u64, Standing>,
    /// How many streams are not settled at `seq`; counted, so that a report costs no scan.
    behind: usize,
    /// The number of the publication that everyone accepted last, and the one accepted before it.
    accepted_seq: u64,
    accepted_before: Option<Arc<Snapshot>>,
    pub(super) quarantine: Arc<Quarantine>,
    /// Whether the newest publication has something that the group refused.
    barred: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self { publications: watch::Sender::new(None), members: Mutex::default() }
    }
}

impl Group {
    pub(super) fn publish(&self, snapshot: Arc<Snapshot>, on_refusal: OnRefusal) -> u64 {
        // The lock makes number, difference and publication one step: concurrent publishers take turns.
        let mut members = lock(&self.members);
        let seq = self.publish_locked(&mut members, snapshot);
        if members.barred
            && on_refusal == OnRefusal::RollBack
            && self.roll_back_locked(&mut members).is_some()
        {
            tracing::warn!("a snapshot has what was refused before; the last accepted one takes its place");
        }
        seq
    }

    fn publish_locked(&self, members: &mut Members, snapshot: Arc<Snapshot>) -> u64 {
        members.seq += 1;
        members.behind = members.standing.len();
        let changes = snapshot.changes_since(&self.current().unwrap_or_default());
        members.barred = members.quarantine.bars(&snapshot);
        let published = Published { seq: members.seq, at: Instant::now(), snapshot, changes };
        self.publications.send_replace(Some(Arc::new(published)));
        members.seq
    }

    pub(super) fn current(&self) -> Option<Arc<Snapshot>> {
        self.publications.borrow().as_ref().map(|published| Arc::clone(&published.snapshot))
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
            // A gap in the numbers: streams look at every name again, also at those that they passed over.
            members.seq += 1;
            self.publish_locked(&mut members, current);
        }
    }

    /// Looks at what is published and at what was accepted in the light of a new refusal.
    pub(super) fn judge(&self, members: &mut Members) {
        members.barred = self.current().is_some_and(|current| members.quarantine.bars(&current));
        let is_barred = |quarantine: &Quarantine| {
            quarantine.accepted.as_ref().is_some_and(|accepted| quarantine.bars(accepted))
        };
        if is_barred(&members.quarantine) {
            // A client that seemed content, or was not there, asked for more: it is accepted no longer.
            members.accepted_seq = 0;
            let before = members.accepted_before.take();
            let quarantine = Arc::make_mut(&mut members.quarantine);
            quarantine.accepted = before.filter(|before| !quarantine.bars(before));
        }
    }

    pub(super) fn join(&self) -> u64 {
        let mut members = lock(&self.members);
        members.next_id += 1;
        members.behind += 1;
        let id = members.next_id;
        members.standing.insert(id, Standing::Busy);
        id
    }

    pub(super) fn leave(&self, id: u64) {
        let mut members = lock(&self.members);
        let settled = Standing::Settled(members.seq);
        if members.standing.remove(&id).is_some_and(|standing| standing != settled) {
            members.behind -= 1;
        }
        self.note_acceptance(&mut members);
    }

    /// Returns whether this is news of a refusal of the newest publication.
    pub(super) fn report(&self, id: u64, standing: Standing) -> bool {
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
        if everyone && !members.barred && members.accepted_seq != members.seq {
            members.accepted_seq = members.seq;
            let current = self.current();
            let quarantine = Arc::make_mut(&mut members.quarantine);
            members.accepted_before = std::mem::replace(&mut quarantine.accepted, current);
        }
    }
}
