//! Rejected resources, and which resources of a response a NACK is about.

use std::sync::Arc;

use crate::resource::Resource;
use crate::version::Version;

/// A resource that the client rejected.
#[derive(Debug)]
pub(crate) struct RejectedResource {
    pub(crate) resource: Arc<Resource>,
    /// Whether the client named it, or it was the only change in the response. Otherwise it is a suspect, and is
    /// sent again after another suspect was corrected.
    pub(crate) certain: bool,
}

/// The resources that a NACK is about.
#[derive(Debug, Default)]
pub struct Blame {
    /// The resources that must contain the cause.
    pub suspects: Vec<Arc<Resource>>,
    /// Whether each of them does.
    pub certain: bool,
    /// The version of the response; none if the server no longer knows the response.
    pub version: Option<Version>,
}
