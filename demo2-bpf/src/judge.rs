//! What bpftrace saw, held against the second witness. Pure: a trace and facts in, claims out.

use shared::report::Story;

use crate::draw;
use crate::facts::{Facts, Switches};
use crate::program::Program;
use crate::trace::Trace;

/// Tells what a program found, and claims what two witnesses agree on.
pub fn judge(program: Program, trace: &Trace, facts: &Facts, story: &mut Story) {
    if trace.lost > 0 {
        story.not_checked(
            program.name(),
            program.question(),
            "all events",
            format!("the kernel lost {} events: counts are too small", trace.lost),
        );
        return;
    }
    let mut court = Court { trace, facts, story };
    match program {
        Program::Listen => court.listen(),
        Program::Accept => court.accept(),
        Program::States => court.states(),
        Program::Bytes => court.bytes(),
        Program::Requests => court.requests(),
        Program::Loop => court.turns(),
        Program::Sched => court.sched(),
        Program::Trouble => court.trouble(),
    }
}

struct Court<'a> {
    trace: &'a Trace,
    facts: &'a Facts,
    story: &'a mut Story,
}

impl Court<'_> {
    /// Claims that the kernel counted what others counted, each of whom is named.
    fn agree(&mut self, id: &str, claim: &str, kernel: i64, others: &[(&str, u64)]) {
        let expected: Vec<String> = others.iter().map(|(who, count)| format!("{count} by {who}")).collect();
        let holds = others.iter().all(|(_, count)| i64::try_from(*count) == Ok(kernel));
        self.story.claim(id, claim, expected.join(", "), format!("{kernel} by the kernel"), holds);
    }

    /// The sum of a map over the worker threads.
    fn workers(&self, map: &str) -> i64 {
        self.facts.workers.keys().map(|tid| self.trace.of(map, &tid.to_string())).sum()
    }

    fn histogram(&mut self, name: &str, title: &str) {
        let Some(bars) = self.trace.histograms.get(name) else { return };
        let lines = draw::histogram(bars, "us");
        self.story.tell(format!("{title}:"));
        lines.iter().for_each(|line| self.story.tell(line));
    }

    fn listen(&mut self) {
        let pid = self.facts.pid.to_string();
        let sockets = self.trace.of("reuseport", &pid);
        let workers = self.facts.workers.len() as u64;
        let listens = self.trace.of("listen", &pid);
        self.story.tell(format!(
            "{listens} calls of listen(), {sockets} sockets that may share a port; the admin interface's may not"
        ));
        self.agree(
            "listen-reuseport",
            "Envoy makes one listening socket a worker, all on one port",
            sockets,
            &[("the number of workers", workers), ("/proc/PID/net/tcp", self.facts.listening)],
        );
    }

    fn accept(&mut self) {
        let accepted = self.workers("accepted");
        let (sent, counted) = (self.facts.sent.connections, self.facts.counted.downstream_connections);
        self.agree(
            "accept-all",
            "Every connection of the client is accepted by a worker",
            accepted,
            &[("the client", sent), ("Envoy", counted)],
        );
        let mut seen = Vec::new();
        let mut told = Vec::new();
        for (tid, worker) in &self.facts.workers {
            seen.push(format!("worker {worker} {}", self.trace.of("accepted", &tid.to_string())));
            let by = self.facts.counted.by_worker.get(worker).copied().unwrap_or(0);
            told.push(format!("worker {worker} {by}"));
        }
        let (seen, told) = (seen.join(", "), told.join(", "));
        let holds = seen == told && !self.facts.workers.is_empty();
        self.story.claim(
            "accept-by-worker",
            "Each worker accepted what Envoy says that it did",
            told,
            seen,
            holds,
        );
        self.story.tell(format!("{} calls came in vain (EAGAIN)", self.workers("again")));
    }

    fn states(&mut self) {
        let (down, up) = (self.trace.number("downstream"), self.trace.number("upstream"));
        let counted = &self.facts.counted;
        let (envoy_down, envoy_up) = (counted.downstream_connections, counted.upstream_connections);
        self.agree(
            "states-downstream",
            "TCP connections from clients are those that Envoy counts",
            down,
            &[("the client", self.facts.sent.connections), ("Envoy", envoy_down)],
        );
        self.agree(
            "states-upstream",
            "TCP connections to the backend are those that Envoy counts",
            up,
            &[("Envoy", envoy_up)],
        );
        let lives = self.trace.counted("life_us");
        self.agree(
            "states-lives",
            "Each of them was seen to end",
            down,
            &[("the histogram of lives", lives)],
        );
        self.histogram("life_us", "how long connections from clients lived");
    }

    fn bytes(&mut self) {
        let counted = &self.facts.counted;
        let envoy_in = counted.downstream_in + counted.upstream_in;
        let envoy_out = counted.downstream_out + counted.upstream_out;
        let (read, written) = (self.workers("in"), self.workers("out"));
        let (from_client, by_client) = (counted.downstream_in, self.facts.sent.bytes_out);
        self.agree(
            "bytes-in",
            "Bytes that workers read, from clients and backends",
            read,
            &[("Envoy", envoy_in)],
        );
        self.agree(
            "bytes-out",
            "Bytes that workers wrote, to clients and backends",
            written,
            &[("Envoy", envoy_out)],
        );
        self.story.claim(
            "bytes-client",
            "Of these came from the client what the client sent",
            format!("{by_client} by the client"),
            format!("{from_client} by Envoy"),
            from_client == by_client,
        );
    }

    fn requests(&mut self) {
        let lines = self.trace.maps.get("line").cloned().unwrap_or_default();
        let begin = |start: &str| -> i64 {
            lines.iter().filter(|(line, _)| line.starts_with(start)).map(|(_, count)| count).sum()
        };
        let (sent, counted) = (self.facts.sent.requests, self.facts.counted.downstream_requests);
        self.agree(
            "requests-read",
            "The kernel reads as many requests as were sent",
            begin("GET /hello"),
            &[("the client", sent), ("Envoy", counted)],
        );
        self.agree(
            "requests-answered",
            "And as many answers of the backend",
            begin("HTTP/1.1 200"),
            &[("the client", sent)],
        );
    }

    fn turns(&mut self) {
        let (turns, requests) = (self.workers("turns"), self.facts.counted.downstream_requests);
        self.story.claim(
            "loop-turns",
            "A request takes at least one turn of a worker's loop",
            format!("at least {requests}, the requests by Envoy"),
            format!("{turns} turns by the kernel"),
            u64::try_from(turns).is_ok_and(|turns| turns >= requests) && requests > 0,
        );
        self.histogram("busy_us", "busy between two waits");
        self.histogram("asleep_us", "asleep in a wait");
    }

    fn sched(&mut self) {
        let sum = |switches: &Switches| -> (u64, u64) {
            let each = self.facts.workers.keys().filter_map(|tid| switches.get(tid));
            each.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
        };
        // /proc and bpftrace cannot be read in the same instant. So no margin is guessed: two readings of /proc lie
        // within the time that it watches, two around it, and what it counted is between.
        let (least, most) = (sum(&self.facts.switches), sum(&self.facts.switches_around));
        for (id, map, what, least, most) in [
            ("sched-slept", "slept", "gave up the core by themselves", least.0, most.0),
            ("sched-preempted", "preempted", "had it taken away", least.1, most.1),
        ] {
            let seen = self.workers(map);
            self.story.claim(
                id,
                &format!("How often workers {what}"),
                format!("{least} to {most}, by /proc/PID/task while and around"),
                format!("{seen} by the kernel"),
                u64::try_from(seen).is_ok_and(|seen| (least..=most).contains(&seen)),
            );
        }
        self.histogram("delay_us", "from woken to running");
    }

    fn trouble(&mut self) {
        let (id, claim) = ("trouble-resets", "Resets that came in are those that the client sent");
        let (resets, sent) = (self.trace.number("reset_by_client"), self.facts.sent.resets);
        if self.facts.direct {
            self.agree(id, claim, resets, &[("the client", sent)]);
        } else {
            let why = "the client calls from another network: a published port's proxy ends connections in its own way";
            self.story.not_checked(id, claim, format!("{sent} by the client"), why);
        }
        self.story.tell(format!(
            "{} resets by the backend, {} segments sent again",
            self.trace.number("reset_by_backend"),
            self.trace.number("again")
        ));
    }
}
