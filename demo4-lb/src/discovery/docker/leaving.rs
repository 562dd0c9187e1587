//! The containers on their way out: those that were told to stop and have not been started since. Pure.
//!
//! A start that nobody heard of must not leave a container out for good, and the engine's events do break off. So
//! what is remembered is not "this container", but "this container, as it was started then".

use std::collections::{BTreeSet, HashMap};

/// The signals that end a program unless it says otherwise: SIGINT, SIGQUIT, SIGKILL, SIGTERM. Others tell it to
/// read its files again or that a window has changed; if one of those ends it, that is an event of its own.
const ENDING: [u8; 4] = [2, 3, 9, 15];

/// Who was told to stop.
#[derive(Clone, Debug, Default)]
pub struct Leaving {
    told: HashMap<String, Told>,
    /// When each container was started, by the last look at it.
    started: HashMap<String, String>,
}

#[derive(Clone, Debug, Default)]
struct Told {
    signals: BTreeSet<u8>,
    /// When the engine had started what was told to stop; unknown for one that was never looked at before.
    started: Option<String>,
}

impl Leaving {
    /// Notes that this container was sent a signal: a number, or a name such as `SIGTERM`.
    pub fn told(&mut self, id: &str, signal: &str) {
        // One that is not known is taken for an end: a call less for one backend, and no call to a dead one.
        let signal = number(signal).unwrap_or(ENDING[3]);
        let started = self.started.get(id).cloned();
        let told = self.told.entry(id.to_owned()).or_default();
        if told.started != started {
            *told = Told { started, ..Told::default() };
        }
        told.signals.insert(signal);
    }

    /// Notes that this container was started, or is gone.
    pub fn forget(&mut self, id: &str) {
        self.told.remove(id);
        self.started.remove(id);
    }

    /// Forgets all but these, which run.
    pub fn keep(&mut self, running: &BTreeSet<String>) {
        self.told.retain(|id, _| running.contains(id));
        self.started.retain(|id, _| running.contains(id));
    }

    /// Looks at a container that was `started` then, and whose image or maker chose this `stop` signal: whether it
    /// is leaving.
    pub fn look(&mut self, id: &str, started: &str, stop: Option<&str>) -> bool {
        self.started.insert(id.to_owned(), started.to_owned());
        let Some(told) = self.told.get_mut(id) else { return false };
        let stop = stop.and_then(number);
        let ends = told.signals.iter().any(|signal| ENDING.contains(signal) || stop == Some(*signal));
        if ends && *told.started.get_or_insert_with(|| started.to_owned()) == started {
            return true;
        }
        // Another start than the one that was told to stop, or nothing to stop for.
        self.told.remove(id);
        false
    }
}

/// The number of a signal that is given as one, or by a name that images choose to be stopped by.
fn number(signal: &str) -> Option<u8> {
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
