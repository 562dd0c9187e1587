//! Replaces [`metrics`](crate) if the feature is off: a type without values, so that no caller needs a condition.

use std::time::Duration;

use crate::resource_type::{PerType, ResourceType};
use crate::variant::XdsVariant;

/// Counters of a server; there are none without the feature `metrics`.
#[derive(Clone, Debug)]
pub(crate) enum Metrics {}

impl Metrics {
    pub(crate) fn stream_opened(&self, _: XdsVariant) {
        match *self {}
    }

    pub(crate) fn stream_closed(&self, _: XdsVariant) {
        match *self {}
    }

    pub(crate) fn request_received(&self, _: Option<ResourceType>) {
        match *self {}
    }

    pub(crate) fn ack_received(&self, _: ResourceType) {
        match *self {}
    }

    pub(crate) fn nack_received(&self, _: ResourceType) {
        match *self {}
    }

    pub(crate) fn rejections_changed(&self, _: &PerType<bool>, _: &PerType<bool>) {
        match *self {}
    }

    pub(crate) fn response_made(&self, _: ResourceType) {
        match *self {}
    }

    pub(crate) fn bytes_sent(&self, _: usize) {
        match *self {}
    }

    pub(crate) fn push_finished(&self, _: Duration) {
        match *self {}
    }
}
