//! New publications, and clients that reconnect with resources of an earlier stream.

use std::sync::Arc;

use super::client_resource::ClientResource;
use super::dirty_names::DirtyNames;
use super::{OpenRequest, Resume, TypeState};
use crate::publication::Publication;
use crate::resource_type::ResourceType;

impl TypeState {
    /// A new snapshot was published. `is_next` says whether the stream processed the previous publication,
    /// `is_full` whether responses of this type must be complete.
    pub(crate) fn on_publication(
        &mut self,
        kind: ResourceType,
        publication: &Publication,
        is_next: bool,
        is_full: bool,
    ) {
        if !self.subscription.has_started() {
            return;
        }
        if is_next {
            let concerned = |name: &&Arc<str>| self.subscription.covers(name) || self.knows(name);
            let changed: Vec<_> = publication.changes[kind].iter().filter(concerned).cloned().collect();
            self.dirty.extend(changed);
        } else {
            self.dirty = DirtyNames::All;
        }
        self.drop_corrected(publication.snapshot.of(kind), is_full);
    }

    /// The first request says what the client has from an earlier stream.
    pub(crate) fn begin_resume(&mut self, resume: Resume) {
        self.resume = Some(resume);
        self.request = OpenRequest::Everything;
    }

    /// Takes what a reconnecting client says it has.
    pub(crate) fn take_resume(&mut self) -> Option<Resume> {
        self.resume.take()
    }

    /// The reconnected client has some version of this name that the snapshot does not have.
    pub(crate) fn mark_unknown(&mut self, name: Arc<str>) {
        self.set(name, Some(ClientResource::OutdatedVersion));
    }

    /// Every name has to be compared with the snapshot.
    pub(crate) fn mark_all_dirty(&mut self) {
        self.dirty = DirtyNames::All;
    }

    /// State of the world: the reconnected client has something else. Only a full response, which root types have,
    /// replaces that.
    pub(crate) fn mark_unknown_version(&mut self, is_root: bool) {
        self.dirty = DirtyNames::All;
        self.must_respond = is_root;
        self.has_unknown_resources = is_root;
    }
}
