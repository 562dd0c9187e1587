//! What bpftrace saw, held against the second witness. Pure: a trace and facts in, claims out.
//!
//! Knows how two witnesses are held against each other. What each program answers for is in the folder beside this
//! file, a method a program.

mod connections;

mod requests;

mod workers;

use shared::report::Recorder;

use crate::draw;
use crate::facts::{EnvoyCounters, Facts};
use crate::program::Program;
use crate::trace::Trace;

/// Tells what a program found, and claims what two witnesses agree on.
pub fn compare(program: Program, trace: &Trace, facts: &Facts, recorder: &mut Recorder) {
    if trace.lost > 0 {
        recorder.not_checked(
            program.name(),
            program.question(),
            "all events",
            format!("the kernel lost {} events: counts are too small", trace.lost),
        );
        return;
    }
    let mut comparison = Comparison { trace, facts, recorder };
    match program {
        Program::Listen => comparison.listen(),
        Program::Accept => comparison.accept(),
        Program::States => comparison.states(),
        Program::Bytes => comparison.bytes(),
        Program::Requests => comparison.requests(),
        Program::Latency => comparison.latency(),
        Program::Loop => comparison.event_loop(),
        Program::Sched => comparison.sched(),
        Program::Errors => comparison.errors(),
    }
}

struct Comparison<'a> {
    trace: &'a Trace,
    facts: &'a Facts,
    recorder: &'a mut Recorder,
}

impl Comparison<'_> {
    /// Claims that the kernel counted what others counted, each of whom is named.
    fn claim_equal(&mut self, id: &str, claim: &str, kernel: i64, others: &[(&str, u64)]) {
        let expected: Vec<String> = others.iter().map(|(who, count)| format!("{count} by {who}")).collect();
        let holds = others.iter().all(|(_, count)| i64::try_from(*count) == Ok(kernel));
        self.recorder.claim(id, claim, expected.join(", "), format!("{kernel} by the kernel"), holds);
    }

    /// Claims that the kernel counted what Envoy did, and what the client did if it was alone.
    fn claim_matches_envoy(
        &mut self,
        id: &str,
        claim: &str,
        kernel: i64,
        count: fn(&EnvoyCounters) -> u64,
        client: Option<u64>,
    ) {
        let (least, most) = (count(&self.facts.envoy_counters), count(&self.facts.envoy_counters_outer));
        let envoy = range(least, most);
        let by_envoy = u64::try_from(kernel).is_ok_and(|kernel| (least..=most).contains(&kernel));
        let seen = format!("{kernel} by the kernel");
        match (client, self.facts.other_traffic()) {
            (None, _) => self.recorder.claim(id, claim, format!("{envoy} by Envoy"), seen, by_envoy),
            (Some(client), None) => {
                let expected = format!("{client} by the client, {envoy} by Envoy");
                self.recorder.claim(
                    id,
                    claim,
                    expected,
                    seen,
                    by_envoy && i64::try_from(client) == Ok(kernel),
                );
            }
            (Some(client), Some(why)) => {
                self.recorder.claim(id, claim, format!("{envoy} by Envoy"), seen, by_envoy);
                let id = format!("{id}-client");
                self.recorder.not_checked(
                    &id,
                    "And the client's count is the same",
                    format!("{client} by the client"),
                    why,
                );
            }
        }
    }

    /// Claims that a count is the client's, if the client was alone.
    fn claim_matches_client(&mut self, id: &str, claim: &str, seen: String, count: i64, client: u64) {
        let expected = format!("{client} by the client");
        match self.facts.other_traffic() {
            Some(why) => self.recorder.not_checked(id, claim, expected, why),
            None => self.recorder.claim(id, claim, expected, seen, i64::try_from(client) == Ok(count)),
        }
    }

    /// The sum of a map over the worker threads.
    fn sum_over_workers(&self, map: &str) -> i64 {
        self.facts.workers.keys().map(|tid| self.trace.of(map, &tid.to_string())).sum()
    }

    fn histogram(&mut self, name: &str, title: &str) {
        let Some(bars) = self.trace.histograms.get(name) else { return };
        let lines = draw::histogram(bars, "us");
        self.recorder.note(format!("{title}:"));
        lines.iter().for_each(|line| self.recorder.note(line));
    }
}

/// A count that is known to lie between two.
fn range(least: u64, most: u64) -> String {
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}
