//! What stands in for [`metrics`](crate) where the feature is off: counters that cannot exist, so that no call of them
//! needs a condition.

use std::time::Duration;

use super::frame::Dialect;
use super::resource::ResourceType;

/// Counters of a server; there are none without the feature `metrics`.
#[derive(Clone, Debug)]
pub(crate) enum Metrics {}

impl Metrics {
    pub(super) fn opened(&self, _: Dialect) {
        match *self {}
    }

    pub(super) fn closed(&self, _: Dialect) {
        match *self {}
    }

    pub(super) fn heard(&self, _: Option<ResourceType>) {
        match *self {}
    }

    pub(super) fn accepted(&self, _: ResourceType) {
        match *self {}
    }

    pub(super) fn refused(&self, _: ResourceType) {
        match *self {}
    }

    pub(super) fn responded(&self, _: ResourceType) {
        match *self {}
    }

    pub(super) fn sent(&self, _: usize) {
        match *self {}
    }

    pub(super) fn pushed(&self, _: Duration) {
        match *self {}
    }
}
