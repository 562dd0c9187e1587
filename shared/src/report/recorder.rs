//! A run as it is told: steps, what was seen, claims. Does not know how what it says is written down.

use std::fmt::Display;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::{Claim, Output, Report, Step, Verdict, line_out, progress};

/// Tells a run while it happens, and keeps its [`Report`].
#[derive(Debug)]
pub struct Recorder {
    output: Output,
    report: Report,
    current: Option<(String, Instant)>,
}

impl Recorder {
    /// Begins the story of `demo` (the crate's name), headed by its one-line `idea`.
    pub fn new(demo: &str, idea: &str, output: Output) -> Self {
        let story =
            Self { output, report: Report { demo: demo.to_owned(), ..Report::default() }, current: None };
        story.print(&format!("{demo}: {idea}"));
        story
    }

    /// Notes the version of a program that takes part.
    pub fn version(&mut self, program: &str, version: &str) {
        self.print(&format!("   with {program} {version}"));
        self.report.versions.insert(program.to_owned(), version.to_owned());
    }

    /// Ends the step before, if any, and begins the next one.
    pub fn step(&mut self, title: &str) {
        self.end_step();
        self.print(&format!("\n{}. {title}", self.report.steps.len() + 1));
        self.current = Some((title.to_owned(), Instant::now()));
    }

    /// Tells something that was seen, in words.
    pub fn note(&self, seen: impl Display) {
        self.print(&format!("   {seen}"));
    }

    /// Whether a claim with this id was recorded already.
    pub fn has_claim(&self, id: &str) -> bool {
        self.report.claim(id).is_some()
    }

    /// Records a claim that was measured, and tells it at once.
    pub fn claim(&mut self, id: &str, claim: &str, expected: impl Display, seen: impl Display, holds: bool) {
        let verdict = if holds { Verdict::Held } else { Verdict::Broken };
        self.record(id, claim, expected.to_string(), seen.to_string(), verdict);
    }

    /// Records a claim that this run cannot measure.
    pub fn not_checked(&mut self, id: &str, claim: &str, expected: impl Display, why: impl Display) {
        self.record(id, claim, expected.to_string(), String::new(), Verdict::NotChecked(why.to_string()));
    }

    fn record(&mut self, id: &str, claim: &str, expected: String, seen: String, verdict: Verdict) {
        let (mark, note) = match &verdict {
            Verdict::Held => ("held", seen.clone()),
            Verdict::Broken => ("BROKEN", format!("{seen}; expected {expected}")),
            Verdict::NotChecked(why) => ("not checked", why.clone()),
        };
        self.print(&format!("   {mark}: {claim} ({note})"));
        self.report.claims.push(Claim {
            id: id.to_owned(),
            claim: claim.to_owned(),
            expected,
            seen,
            verdict,
        });
    }

    /// A progress bar on stderr for work of `length` parts; draws nothing if stderr is no terminal.
    pub fn progress(&self, what: &str, length: u64) -> ProgressBar {
        match self.output {
            Output::Silent => ProgressBar::hidden(),
            Output::Human | Output::Json => progress(what, length),
        }
    }

    /// Ends the story: closes the last step and works out whether all of it held.
    pub fn finish(mut self) -> Report {
        self.end_step();
        let held = self.report.broken().next().is_none();
        self.report.held = held;
        self.report
    }

    /// Ends a story that could not be told to its end.
    pub fn abort(mut self, error: impl Display) -> Report {
        self.end_step();
        self.report.error = Some(error.to_string());
        self.report
    }

    fn end_step(&mut self) {
        if let Some((step, current)) = self.current.take() {
            self.report.steps.push(Step { step, seconds: seconds(current.elapsed()) });
        }
    }

    fn print(&self, line: &str) {
        if self.output == Output::Human {
            line_out(line);
        }
    }
}

/// Seconds with millisecond precision, as the JSON form tells them.
fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}
