//! What a client rejected on this stream, and what it may have of it.
//!
//! A NACK is one client's answer to one response. It names no resources: its message is free text, from which nothing
//! is read. So all changes of the response are rejected. A rejected change is not sent again until its resource
//! changes, with two exceptions, because one invalid resource makes a client reject a whole response:
//!
//! - A response that must be complete, which has all clusters or listeners, carries rejected versions too. It is sent
//!   when something else of its type changes.
//! - When one resource of a rejected response changes, each of the others is sent once more, alone. The answer
//!   then is about that resource only. The same holds if the client requests one of them again.
//!
//! The memory ends with the stream.

use std::sync::Arc;

use crate::version::Version;

/// A change of one resource that the client rejected.
#[derive(Debug)]
pub(crate) struct RejectedChange {
    /// The rejected version; none if the change was a removal.
    pub(super) version: Option<Version>,
    /// The nonce of the rejected response.
    pub(super) nonce: u64,
    /// Whether it was the only change of a rejected response.
    pub(super) is_alone: bool,
}

/// A response that the client rejected.
#[derive(Debug)]
pub struct RejectedResponse {
    /// The version of the response.
    pub version: Version,
    /// The names of the resources that it added, changed or removed.
    pub names: Vec<Arc<str>>,
}

impl RejectedChange {
    /// Whether the change was a removal.
    pub(super) fn is_removal(&self) -> bool {
        self.version.is_none()
    }
}
