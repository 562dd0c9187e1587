//! What a client has after an ACK. What it has after a NACK is the subject of `nacks.rs`.

use super::TypeState;
use crate::version::Version;

impl TypeState {
    /// The client accepted a response. Returns its version, if it was still unanswered.
    ///
    /// Responses that were sent before it count as answered too, because a client answers in order.
    pub(crate) fn on_ack(&mut self, nonce: u64) -> Option<Version> {
        let at = self.in_flight.iter().position(|response| response.nonce == nonce)?;
        let version = self.in_flight[at].version;
        self.has_unknown_resources = false;
        let answered = self.in_flight.drain(..=at);
        if self.possibly_held.is_empty() && self.rejected.is_empty() {
            // Nearly always; then there is no need to look at every name again.
            return Some(version);
        }
        for response in answered {
            let changed = response.changed.iter().map(|(resource, _)| resource.name());
            for name in changed.chain(response.removed.iter().map(|(name, _)| name)) {
                self.possibly_held.remove(name);
                self.rejected.remove(name);
            }
        }
        Some(version)
    }
}
