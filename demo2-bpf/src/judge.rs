//! What bpftrace saw, held against the second witness. Pure: a trace and facts in, claims out.
//!
//! Knows how two witnesses are held against each other. What each program answers for is in the folder beside this
//! file, a method a program.

mod connections;

mod requests;

mod workers;

use shared::report::Recorder;

use crate::draw;
use crate::facts::{Counted, Facts};
use crate::program::Program;
use crate::trace::Trace;

/// Tells what a program found, and claims what two witnesses agree on.
pub fn judge(program: Program, trace: &Trace, facts: &Facts, story: &mut Recorder) {
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
    story: &'a mut Recorder,
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
        self.story.note(format!("{title}:"));
        lines.iter().for_each(|line| self.story.note(line));
    }
}

/// A count that is known to lie between two.
fn range(least: u64, most: u64) -> String {
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}
