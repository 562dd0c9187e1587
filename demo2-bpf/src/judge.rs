//! What bpftrace saw, held against the second witness. Pure: a trace and facts in, claims out.

use shared::report::Story;

use crate::draw;
use crate::facts::{Counted, Facts, Switches};
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
        Program::Inside => court.inside(),
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

    /// Claims that the kernel counted what Envoy did, and what the client did if it was alone.
    fn with_envoy(
        &mut self,
        id: &str,
        claim: &str,
        kernel: i64,
        count: fn(&Counted) -> u64,
        client: Option<u64>,
    ) {
        let (least, most) = (count(&self.facts.counted), count(&self.facts.counted_around));
        let envoy = range(least, most);
        let by_envoy = u64::try_from(kernel).is_ok_and(|kernel| (least..=most).contains(&kernel));
        let seen = format!("{kernel} by the kernel");
        match (client, self.facts.other_traffic()) {
            (None, _) => self.story.claim(id, claim, format!("{envoy} by Envoy"), seen, by_envoy),
            (Some(client), None) => {
                let expected = format!("{client} by the client, {envoy} by Envoy");
                self.story.claim(id, claim, expected, seen, by_envoy && i64::try_from(client) == Ok(kernel));
            }
            (Some(client), Some(why)) => {
                self.story.claim(id, claim, format!("{envoy} by Envoy"), seen, by_envoy);
                let id = format!("{id}-client");
                self.story.not_checked(
                    &id,
                    "And the client's count is the same",
                    format!("{client} by the client"),
                    why,
                );
            }
        }
    }

    /// Claims that a count is the client's, if the client was alone.
    fn with_client(&mut self, id: &str, claim: &str, seen: String, count: i64, client: u64) {
        let expected = format!("{client} by the client");
        match self.facts.other_traffic() {
            Some(why) => self.story.not_checked(id, claim, expected, why),
            None => self.story.claim(id, claim, expected, seen, i64::try_from(client) == Ok(count)),
        }
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
        self.story.tell(format!("{} calls came in vain (EAGAIN)", self.workers("again")));
    }

    fn states(&mut self) {
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

    fn bytes(&mut self) {
        let (read, written) = (self.workers("in"), self.workers("out"));
        let (from_client, by_client) = (self.facts.counted.downstream_in, self.facts.sent.bytes_out);
        self.with_envoy(
            "bytes-in",
            "Bytes that workers read, from clients and backends",
            read,
            |counted| counted.downstream_in + counted.upstream_in,
            None,
        );
        self.with_envoy(
            "bytes-out",
            "Bytes that workers wrote, to clients and backends",
            written,
            |counted| counted.downstream_out + counted.upstream_out,
            None,
        );
        self.with_client(
            "bytes-client",
            "Of these came from the client what the client sent",
            format!("{from_client} by Envoy"),
            i64::try_from(from_client).unwrap_or(i64::MAX),
            by_client,
        );
    }

    fn requests(&mut self) {
        let lines = self.trace.maps.get("line").cloned().unwrap_or_default();
        let begin = |start: &str| -> i64 {
            lines.iter().filter(|(line, _)| line.starts_with(start)).map(|(_, count)| count).sum()
        };
        let (sent, counted) = (self.facts.sent.requests, self.facts.counted.downstream_requests);
        // Other requests may begin with other words, so that here others' traffic leaves nothing to compare.
        let (id, claim) = ("requests-read", "The kernel reads as many requests as were sent");
        match self.facts.other_traffic() {
            None => self.agree(id, claim, begin("GET /hello"), &[("the client", sent), ("Envoy", counted)]),
            Some(why) => self.story.not_checked(id, claim, format!("{sent} by the client"), why),
        }
        let answers = begin("HTTP/1.1 200");
        let seen = format!("{answers} by the kernel");
        self.with_client("requests-answered", "And as many answers of the backend", seen, answers, sent);
    }

    /// All in microseconds. Each bound is one that the measured must keep, whoever is slow: the client begins before
    /// Envoy reads and ends after Envoy writes; Envoy times from after its read to before its write.
    fn inside(&mut self) {
        let followed = self.trace.number("requests");
        let micros = |name: &str| u64::try_from(self.trace.number(name) / 1000).unwrap_or(0);
        let (request, backend, response) =
            (micros("request_ns"), micros("backend_ns"), micros("response_ns"));
        let total = request + backend + response;
        let claims = [
            ("inside-all", "Every request was followed through Envoy"),
            (
                "inside-total",
                "From read to written it took less than the client waited, and more than Envoy timed",
            ),
            ("inside-backend", "Of that it waited for the backend"),
        ];
        let sent = self.facts.sent;
        let why = self.facts.other_traffic().or_else(|| {
            self.facts.timed.is_none().then(|| "Envoy did not merge its histograms of times".to_owned())
        });
        let timed = match (why, self.facts.timed) {
            (None, Some(timed)) => timed,
            (why, _) => {
                let why = why.unwrap_or_default();
                claims
                    .iter()
                    .for_each(|(id, claim)| self.story.not_checked(id, claim, "times by Envoy", &why));
                return;
            }
        };
        self.agree(
            claims[0].0,
            claims[0].1,
            followed,
            &[("the client", sent.requests), ("Envoy's downstream_rq_time", timed.requests)],
        );
        let (least, most) = (timed.requests_least_ms * 1000, sent.micros);
        self.story.claim(
            claims[1].0,
            claims[1].1,
            format!("{least} us by Envoy's downstream_rq_time to {most} us by the client"),
            format!("{total} us by the kernel"),
            followed > 0 && (least..=most).contains(&total),
        );
        let (least, most) = (sent.backend_micros, timed.calls_most_ms * 1000);
        self.story.claim(
            claims[2].0,
            claims[2].1,
            format!("{least} us by the backend to {most} us by Envoy's upstream_rq_time"),
            format!("{backend} us by the kernel"),
            followed > 0 && (least..=most).contains(&backend),
        );
        let each = |sum: u64| sum / u64::try_from(followed).unwrap_or(1).max(1);
        self.story.tell(format!(
            "a request in us: {} request path, {} backend, {} response path",
            each(request),
            each(backend),
            each(response)
        ));
        self.histogram("request_us", "request path");
        self.histogram("response_us", "response path");
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
        let (id, claim) = ("loop-envoy", "Envoy timed as many turns as the kernel saw");
        match self.facts.turns {
            Some((least, most)) => self.story.claim(
                id,
                claim,
                format!("{} by Envoy", range(least, most)),
                format!("{turns} by the kernel"),
                u64::try_from(turns).is_ok_and(|turns| (least..=most).contains(&turns)),
            ),
            None => {
                let why = "this Envoy does not time them: its bootstrap lacks enable_dispatcher_stats";
                self.story.not_checked(id, claim, "turns by Envoy", why);
            }
        }
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
        self.story.tell(format!("{} resets by the backend", self.trace.number("reset_by_backend")));
    }
}

/// A count that is known to lie between two.
fn range(least: u64, most: u64) -> String {
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}
