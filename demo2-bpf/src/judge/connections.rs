//! Verdicts on connections: who listens, who accepts, how they live, what goes wrong.
//!
//! Does not know what is sent on them.

use super::{Court, range};
use crate::facts::Counted;

impl Court<'_> {
    pub(super) fn listen(&mut self) {
        let pid = self.facts.pid.to_string();
        let sockets = self.trace.of("reuseport", &pid);
        let workers = self.facts.workers.len() as u64;
        let listens = self.trace.of("listen", &pid);
        self.story.note(format!(
            "{listens} calls of listen(), {sockets} sockets that may share a port; the admin interface's may not"
        ));
        self.agree(
            "listen-reuseport",
            "Envoy makes one listening socket a worker, all on one port",
            sockets,
            &[("the number of workers", workers), ("/proc/PID/net/tcp", self.facts.listening)],
        );
    }

    pub(super) fn accept(&mut self) {
        let accepted = self.workers("accepted");
        self.with_envoy(
            "accept-all",
            "Every connection of the client is accepted by a worker",
            accepted,
            |counted| counted.downstream_connections,
            Some(self.facts.sent.connections),
        );
        let mut seen = Vec::new();
        let mut told = Vec::new();
        let mut holds = !self.facts.workers.is_empty();
        for (tid, worker) in &self.facts.workers {
            let accepted = self.trace.of("accepted", &tid.to_string());
            let by = |counted: &Counted| counted.by_worker.get(worker).copied().unwrap_or(0);
            let (least, most) = (by(&self.facts.counted), by(&self.facts.counted_around));
            holds &= u64::try_from(accepted).is_ok_and(|accepted| (least..=most).contains(&accepted));
            seen.push(format!("worker {worker} {accepted}"));
            told.push(format!("worker {worker} {}", range(least, most)));
        }
        let (seen, told) = (seen.join(", "), told.join(", "));
        self.story.claim(
            "accept-by-worker",
            "Each worker accepted what Envoy says that it did",
            told,
            seen,
            holds,
        );
        self.story.note(format!("{} calls came in vain (EAGAIN)", self.workers("again")));
    }

    pub(super) fn states(&mut self) {
        let (down, up) = (self.trace.number("downstream"), self.trace.number("upstream"));
        self.with_envoy(
            "states-downstream",
            "TCP connections from clients are those that Envoy counts",
            down,
            |counted| counted.downstream_connections,
            Some(self.facts.sent.connections),
        );
        self.with_envoy(
            "states-upstream",
            "TCP connections to the backend are those that Envoy counts",
            up,
            |counted| counted.upstream_connections,
            None,
        );
        let lives = i64::try_from(self.trace.counted("life_us")).unwrap_or(i64::MAX);
        let (id, claim) = ("states-lives", "Each of them was seen to end, as Envoy saw it");
        match self.facts.other_traffic() {
            None => self.with_envoy(id, claim, lives, |counted| counted.downstream_ended, None),
            // Envoy counts the end of those too whose beginning nobody watched.
            Some(why) => self.story.not_checked(id, claim, "connections that began and ended meanwhile", why),
        }
        self.histogram("life_us", "how long connections from clients lived");
    }

    pub(super) fn trouble(&mut self) {
        let (id, claim) = ("trouble-resets", "Resets that came in are those that the client sent");
        let (resets, sent) = (self.trace.number("reset_by_client"), self.facts.sent.resets);
        if self.facts.direct {
            self.with_client(id, claim, format!("{resets} by the kernel"), resets, sent);
        } else {
            let why = "the client calls from another network: a published port's proxy ends connections in its own way";
            self.story.not_checked(id, claim, format!("{sent} by the client"), why);
        }
        let again = self.trace.number("again");
        let (id, claim) =
            ("trouble-again", "No more was sent again between these ports than in all of Envoy's network");
        match self.facts.sent_again {
            Some(most) => self.story.claim(
                id,
                claim,
                format!("at most {most} by /proc/PID/net/snmp"),
                format!("{again} by the kernel"),
                u64::try_from(again).is_ok_and(|again| again <= most),
            ),
            None => self.story.not_checked(id, claim, "RetransSegs", "/proc/PID/net/snmp cannot be read"),
        }
        self.story.note(format!("{} resets by the backend", self.trace.number("reset_by_backend")));
    }
}
