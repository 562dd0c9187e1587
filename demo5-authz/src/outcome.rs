//! The outcome of one check: the decision and its context. The authorizer makes it, and the decision log records it.

use crate::decision::{Decision, Reason};
use crate::policy::Principal;

/// A decision, with what the decision log says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The decision.
    pub decision: Decision,
    /// The authenticated caller, if there is one.
    pub principal: Option<Principal>,
    /// The policies that decided.
    pub policies: Vec<String>,
}

impl Outcome {
    /// Denies a request before any policy was asked.
    pub(crate) fn deny(reason: impl Into<Reason>) -> Self {
        Self { decision: Decision::Deny { reason: reason.into() }, principal: None, policies: Vec::new() }
    }
}
