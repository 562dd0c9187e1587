//! Records requests and their outcome in the event log and the metrics.

use std::sync::Arc;

use super::{Reaction, StreamHandler};
use crate::event_log::{EventKind, NameList, shorten_message};
use crate::resource_type::ResourceType;
use crate::response::{Blame, RequestOutcome};
use crate::server::request::Request;

impl StreamHandler {
    /// Records the outcome of a request. Returns what follows from it.
    pub(super) fn record_outcome(
        &self,
        kind: ResourceType,
        request: &Request,
        initial_versions: usize,
        outcome: RequestOutcome,
    ) -> Reaction {
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
                return Reaction { rejected: Vec::new(), subscribes };
            }
            // The stream ends with a status that says so.
            RequestOutcome::LimitExceeded => {}
            RequestOutcome::Stale => self.record(kind.service(), || {
                let (names, unsubscribed) = request.names();
                EventKind::Stale { nonce: request.nonce(), names, unsubscribed }
            }),
            RequestOutcome::Nack { message, blame } => {
                self.record_nack(kind, request, &message, &blame);
                // A mere suspect may be correct, so other clients still get it.
                let rejected = if blame.certain { blame.suspects } else { Vec::new() };
                return Reaction { rejected, subscribes: false };
            }
        }
        Reaction { rejected: Vec::new(), subscribes: true }
    }

    fn record_nack(&self, kind: ResourceType, request: &Request, message: &str, blame: &Blame) {
        self.context.count(|metrics| metrics.nack_received(kind));
        let message = shorten_message(message);
        if let Some(session) = &self.session {
            // Not a warning: NACKs are part of the protocol, and some scenarios provoke them.
            tracing::info!(node = %session.node, "{} rejected: {message}", kind.service());
        }
        let names = blame.suspects.iter().map(|resource| Arc::clone(resource.name())).collect();
        self.record(kind.service(), || EventKind::Nack {
            version: blame.version.map(|version| version.to_string()).unwrap_or_default(),
            nonce: request.nonce(),
            names: NameList::new(names),
            message,
        });
    }

    /// Records an event, if the server has an event log.
    pub(super) fn record(&self, type_name: &str, event: impl FnOnce() -> EventKind) {
        if let (Some(event_log), Some(session)) = (&self.context.event_log, &self.session) {
            event_log.record(&session.node, self.id, self.variant, type_name, event());
        }
    }
}
