//! Records requests and their outcome in the event log and the metrics.

use super::StreamHandler;
use crate::event_log::{EventKind, NameList, shorten_message};
use crate::resource_type::ResourceType;
use crate::response::{RejectedResponse, RequestOutcome, Response};
use crate::server::request::Request;

/// The largest message that a gRPC client accepts by default, in bytes.
const CLIENT_LIMIT: usize = 4 * 1024 * 1024;

/// How many resources the report about a large response has.
const LARGEST_SHOWN: usize = 3;

impl StreamHandler {
    /// Records the outcome of a request. Returns whether the request subscribes.
    pub(super) fn record_outcome(
        &self,
        kind: ResourceType,
        request: &Request,
        initial_versions: usize,
        outcome: RequestOutcome,
    ) -> bool {
        match outcome {
            RequestOutcome::Subscription => self.record(kind.service(), || request.event(initial_versions)),
            RequestOutcome::Ack { version, subscribes } => {
                self.context.count(|metrics| metrics.ack_received(kind));
                self.record(kind.service(), || {
                    let (names, unsubscribed) = if subscribes { request.names() } else { Default::default() };
                    EventKind::Ack {
                        version: version.to_string(),
                        nonce: request.nonce(),
                        names,
                        unsubscribed,
                    }
                });
                return subscribes;
            }
            // The stream ends with a status that says so.
            RequestOutcome::LimitExceeded => {}
            RequestOutcome::Stale => self.record(kind.service(), || {
                let (names, unsubscribed) = request.names();
                EventKind::Stale { nonce: request.nonce(), names, unsubscribed }
            }),
            RequestOutcome::Nack { message, rejected } => {
                self.record_nack(kind, request, &message, rejected.as_ref());
                return false;
            }
        }
        true
    }

    fn record_nack(
        &self,
        kind: ResourceType,
        request: &Request,
        message: &str,
        rejected: Option<&RejectedResponse>,
    ) {
        self.context.count(|metrics| metrics.nack_received(kind));
        let message = shorten_message(message);
        if let Some(session) = &self.session {
            // Not a warning: NACKs are part of the protocol, and some scenarios provoke them.
            tracing::info!(node = %session.node, "{} rejected: {message}", kind.service());
        }
        self.record(kind.service(), || EventKind::Nack {
            version: rejected.map(|rejected| rejected.version.to_string()).unwrap_or_default(),
            nonce: request.nonce(),
            names: rejected.map(|rejected| NameList::new(&rejected.names)).unwrap_or_default(),
            message,
        });
    }

    /// Reports a response that is too large for most clients, once for each version.
    pub(super) fn report_large(&self, response: &Response) {
        let bytes = response.size();
        if bytes <= CLIENT_LIMIT || !self.context.is_new_large_response(response.kind, response.version) {
            return;
        }
        let (version, largest) = (response.version.to_string(), response.largest(LARGEST_SHOWN));
        tracing::warn!(
            "a {} response has {bytes} B, and gRPC clients accept {CLIENT_LIMIT} B by default; its largest resources, \
             with their sizes, are {largest:?}",
            response.kind
        );
        let kind = response.kind.service();
        self.record(kind, || EventKind::LargeResponse { version, bytes, largest });
    }

    /// Records an event, if the server has an event log.
    pub(super) fn record(&self, type_name: &str, event: impl FnOnce() -> EventKind) {
        if let (Some(event_log), Some(session)) = (&self.context.event_log, &self.session) {
            event_log.record(&session.node, self.id, self.variant, type_name, event());
        }
    }
}
