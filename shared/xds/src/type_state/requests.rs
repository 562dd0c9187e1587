//! What a request changes: the subscription, and which names need a response.

use std::collections::HashSet;
use std::sync::Arc;

use super::client_resource::ClientResource;
use super::dirty_names::DirtyNames;
use super::{OpenRequest, TypeState};
use crate::subscription::SubscriptionChange;

impl TypeState {
    /// State of the world: replaces the subscription. See [`Subscription::replace`].
    pub(crate) fn replace_subscription(
        &mut self,
        names: &[String],
        legacy_wildcard: bool,
        intern: impl Fn(&str) -> Arc<str>,
    ) -> SubscriptionChange {
        self.subscription.replace(names, legacy_wildcard, intern)
    }

    /// Delta: updates the subscription. See [`Subscription::update`].
    pub(crate) fn update_subscription(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        legacy_wildcard: bool,
        intern: impl Fn(&str) -> Arc<str>,
    ) -> SubscriptionChange {
        self.subscription.update(subscribe, unsubscribe, legacy_wildcard, intern)
    }

    /// The client requested this name, and needs a response even if nothing changed.
    pub(crate) fn mark_requested(&mut self, name: Arc<str>) {
        self.release_requested(&name);
        let before = self.held.get(&name).and_then(ClientResource::sent).cloned();
        self.set(Arc::clone(&name), Some(ClientResource::Requested(before)));
        self.dirty.extend([name]);
        self.request = self.request.max(OpenRequest::Names);
    }

    /// The client requested everything. `must_respond` says whether it needs a response even without resources.
    pub(crate) fn mark_everything_requested(&mut self, must_respond: bool) {
        self.release_all_requested();
        self.dirty = DirtyNames::All;
        self.request = OpenRequest::Everything;
        self.must_respond = must_respond;
    }

    /// The open request needs no response any more.
    pub(crate) fn close_request(&mut self) {
        self.request = OpenRequest::None;
    }

    /// State of the world: remembers the names that an ignored request does not list.
    pub(crate) fn remember_omitted(&mut self, listed: &[String]) {
        let listed: HashSet<&str> = listed.iter().map(String::as_str).collect();
        let omitted = self.subscription.names().filter(|name| !listed.contains(&***name));
        self.omitted.extend(omitted.cloned());
    }

    /// State of the world: marks the names as requested that ignored requests left out and the client wants again.
    pub(crate) fn mark_omitted_requested(&mut self) {
        for name in std::mem::take(&mut self.omitted) {
            if self.subscription.covers(&name) {
                self.mark_requested(name);
            }
        }
    }

    /// The client does not have this name.
    pub(crate) fn forget(&mut self, name: &Arc<str>) {
        self.possibly_held.remove(name);
        self.set(Arc::clone(name), None);
    }

    /// The client has only what it subscribes to.
    pub(crate) fn forget_unsubscribed(&mut self) {
        let names = self.held.keys().filter(|name| !self.subscription.covers(name));
        let unsubscribed: Vec<_> = names.cloned().collect();
        unsubscribed.iter().for_each(|name| self.forget(name));
        self.possibly_held.retain(|name, _| self.subscription.covers(name));
    }

    /// A client that dropped its subscription and wants everything again may still accept a response in flight, so
    /// that it must be sent those resources again.
    pub(crate) fn mark_in_flight_unconfirmed(&mut self) {
        let changed = self.in_flight.iter().flat_map(|response| &response.changed);
        let dropped = changed.filter(|(one, _)| !self.held.contains_key(one.name()));
        let dropped: Vec<_> = dropped.map(|(one, _)| Arc::clone(one)).collect();
        for resource in dropped {
            self.set(Arc::clone(resource.name()), Some(ClientResource::Unconfirmed(Some(resource))));
        }
    }

    /// Makes room for resources that the client is about to have.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.held.reserve(more);
    }
}
