//! Containers that received a stop signal and have not been started since. Pure.
//!
//! A start that nobody heard of must not leave a container out for good, and the engine's events do break off. So
//! what is remembered is not "this container", but "this container, as it was started then".

use std::collections::{BTreeSet, HashMap};

/// The signals that end a program unless it says otherwise: SIGINT, SIGQUIT, SIGKILL, SIGTERM. Others tell it to
/// read its files again or that a window has changed; if one of those ends it, that is an event of its own.
const TERMINATION_SIGNALS: [u8; 4] = [2, 3, 9, 15];

/// Tracks containers that are terminating.
#[derive(Clone, Debug, Default)]
pub struct TerminationTracker {
    signals_by_container: HashMap<String, StopSignals>,
    /// When each container was started, by its last inspection.
    started: HashMap<String, String>,
}

#[derive(Clone, Debug, Default)]
struct StopSignals {
    signals: BTreeSet<u8>,
    /// When the container was started that got the signal; unknown if it was never inspected before.
    started: Option<String>,
}

impl TerminationTracker {
    /// Records a signal to this container: a number, or a name such as `SIGTERM`.
    pub fn record_signal(&mut self, id: &str, signal: &str) {
        // One that is not known is taken for an end: a call less for one backend, and no call to a dead one.
        let signal = signal_number(signal).unwrap_or(TERMINATION_SIGNALS[3]);
        let started = self.started.get(id).cloned();
        let recorded = self.signals_by_container.entry(id.to_owned()).or_default();
        if recorded.started != started {
            *recorded = StopSignals { started, ..StopSignals::default() };
        }
        recorded.signals.insert(signal);
    }

    /// Forgets a container that was started or removed.
    pub fn remove(&mut self, id: &str) {
        self.signals_by_container.remove(id);
        self.started.remove(id);
    }

    /// Forgets all containers except these running ones.
    pub fn retain(&mut self, running: &BTreeSet<String>) {
        self.signals_by_container.retain(|id, _| running.contains(id));
        self.started.retain(|id, _| running.contains(id));
    }

    /// Takes the start time and the configured stop signal of a container, and returns whether it is terminating.
    pub fn observe(&mut self, id: &str, started: &str, stop_signal: Option<&str>) -> bool {
        self.started.insert(id.to_owned(), started.to_owned());
        let Some(recorded) = self.signals_by_container.get_mut(id) else { return false };
        let stop_signal = stop_signal.and_then(signal_number);
        let terminates = recorded
            .signals
            .iter()
            .any(|signal| TERMINATION_SIGNALS.contains(signal) || stop_signal == Some(*signal));
        if terminates && *recorded.started.get_or_insert_with(|| started.to_owned()) == started {
            return true;
        }
        // The signals were for an earlier start, or none of them terminates a container.
        self.signals_by_container.remove(id);
        false
    }
}

/// The number of a signal that is given as one, or by a name that images choose to be stopped by.
fn signal_number(signal: &str) -> Option<u8> {
    match signal.strip_prefix("SIG").unwrap_or(signal) {
        "HUP" => Some(1),
        "INT" => Some(2),
        "QUIT" => Some(3),
        "KILL" => Some(9),
        "USR1" => Some(10),
        "USR2" => Some(12),
        "TERM" => Some(15),
        "WINCH" => Some(28),
        // systemd's.
        "RTMIN+3" => Some(37),
        other => other.parse().ok(),
    }
}
