//! What a run claims, expected and saw: the [`Report`], and the [`Story`] that tells it while it happens.
//!
//! All that is printed on stdout goes through here, but for demo 5's decision log. With `--json` stdout carries the report and nothing else; for
//! people it carries numbered steps as they happen, and a table of claims at the end.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Serialize, Serializer};

/// Whether a claim was borne out by what was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Measured, and as expected.
    Held,
    /// Measured, and not as expected.
    Broken,
    /// Not measured in this run, for the reason given. Never counts as held.
    NotChecked(String),
}

/// One sentence that the run puts to the test.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    /// A short stable name, for graders and tests: `added-share`.
    pub id: String,
    /// The sentence.
    pub claim: String,
    /// What should be seen, with units and bounds.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// What follows.
    #[serde(flatten, serialize_with = "verdict_fields")]
    pub verdict: Verdict,
}

/// A numbered part of the story and how long it took.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Its title.
    pub step: String,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// The outcome of a whole run; printed as JSON in just this form.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The crate's name.
    pub demo: String,
    /// True if the run came to its end and no claim is broken.
    pub held: bool,
    /// Programs that took part, with their versions.
    pub versions: BTreeMap<String, String>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The claims, in order.
    pub claims: Vec<Claim>,
    /// Why the story ended early, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Report {
    /// The claims that did not hold.
    pub fn broken(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(|claim| claim.verdict == Verdict::Broken)
    }

    /// The claim with this id.
    pub fn claim(&self, id: &str) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.id == id)
    }
}

fn verdict_fields<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let mut fields = serializer.serialize_map(None)?;
    match verdict {
        Verdict::Held => fields.serialize_entry("verdict", "held")?,
        Verdict::Broken => fields.serialize_entry("verdict", "broken")?,
        Verdict::NotChecked(why) => {
            fields.serialize_entry("verdict", "not checked")?;
            fields.serialize_entry("why", why)?;
        }
    }
    fields.end()
}

/// Who reads stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// People: steps as they happen, then a table.
    Human,
    /// Programs: the report as JSON, and nothing else.
    Json,
    /// Nobody: a test holds the report itself.
    #[default]
    Silent,
}

/// Tells a run while it happens, and keeps its [`Report`].
#[derive(Debug)]
pub struct Story {
    output: Output,
    report: Report,
    begun: Option<(String, Instant)>,
}

impl Story {
    /// Begins the story of `demo` (the crate's name), headed by its one-line `idea`.
    pub fn new(demo: &str, idea: &str, output: Output) -> Self {
        let story =
            Self { output, report: Report { demo: demo.to_owned(), ..Report::default() }, begun: None };
        story.say(&format!("{demo}: {idea}"));
        story
    }

    /// Notes the version of a program that takes part.
    pub fn version(&mut self, program: &str, version: &str) {
        self.say(&format!("   with {program} {version}"));
        self.report.versions.insert(program.to_owned(), version.to_owned());
    }

    /// Ends the step before, if any, and begins the next one.
    pub fn step(&mut self, title: &str) {
        self.end_step();
        self.say(&format!("\n{}. {title}", self.report.steps.len() + 1));
        self.begun = Some((title.to_owned(), Instant::now()));
    }

    /// Tells something that was seen, in words.
    pub fn tell(&self, seen: impl Display) {
        self.say(&format!("   {seen}"));
    }

    /// Whether a claim with this id was recorded already.
    pub fn has(&self, id: &str) -> bool {
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
        self.say(&format!("   {mark}: {claim} ({note})"));
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
    pub fn end(mut self) -> Report {
        self.end_step();
        let held = self.report.broken().next().is_none();
        self.report.held = held;
        self.report
    }

    /// Ends a story that could not be told to its end.
    pub fn cut_short(mut self, error: impl Display) -> Report {
        self.end_step();
        self.report.error = Some(error.to_string());
        self.report
    }

    fn end_step(&mut self) {
        if let Some((step, begun)) = self.begun.take() {
            self.report.steps.push(Step { step, seconds: seconds(begun.elapsed()) });
        }
    }

    fn say(&self, line: &str) {
        if self.output == Output::Human {
            line_out(line);
        }
    }
}

/// A progress bar on stderr for a role's work of `length` parts; draws nothing if stderr is no terminal.
pub fn progress(what: &str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("   {msg} [{bar:30}] {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    bar.with_style(style).with_message(what.to_owned())
}

/// Prints the report: the table for people, or JSON for programs.
pub fn print(report: &Report, output: Output) {
    match output {
        Output::Silent => {}
        Output::Json => match serde_json::to_string_pretty(report) {
            Ok(json) => line_out(&json),
            Err(error) => tracing::error!(%error, "the report has no JSON form"),
        },
        Output::Human => {
            if !report.claims.is_empty() {
                line_out(&format!("\n{}", table(report)));
            }
            line_out(&summary(report));
        }
    }
}

/// Prints one line on stdout, for the roles whose output is the point of running them.
pub fn line_out(line: &str) {
    let mut stdout = io::stdout();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    match written {
        // A reader that went away (`| head`) is no reason to panic, as println! would, nor to fail.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => _ = LOST.set(error),
        _ => {}
    }
}

/// Why the first line that could not be written to stdout was lost.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Why stdout lacks something that was printed, if it does: a full disk, for example. Whoever reads it must not
/// take what is there for the whole, so a program that finds this at its end fails.
pub fn lost() -> Option<&'static io::Error> {
    LOST.get()
}

/// Prints one line on stderr, beside a story.
pub fn line_err(line: &str) {
    _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether colours may be used on this stream: it is a terminal, and the user did not turn them off
/// (<https://no-color.org>).
pub fn colours(on: &impl IsTerminal) -> bool {
    on.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        table.set_width(110);
    }
    table.set_header(["claim", "expected", "seen", "verdict"]);
    for claim in &report.claims {
        let (word, colour, seen) = match &claim.verdict {
            Verdict::Held => ("held", Color::Green, &claim.seen),
            Verdict::Broken => ("BROKEN", Color::Red, &claim.seen),
            Verdict::NotChecked(why) => ("not checked", Color::Yellow, why),
        };
        let verdict = if colours(&std::io::stdout()) { Cell::new(word).fg(colour) } else { Cell::new(word) };
        table.add_row([Cell::new(&claim.claim), Cell::new(&claim.expected), Cell::new(seen), verdict]);
    }
    table
}

fn summary(report: &Report) -> String {
    // Not sum(), which is -0.0 for none.
    let took = report.steps.iter().fold(0.0, |sum, step| sum + step.seconds);
    let broken: Vec<&str> = report.broken().map(|claim| claim.id.as_str()).collect();
    let unchecked =
        report.claims.iter().filter(|claim| matches!(claim.verdict, Verdict::NotChecked(_))).count();
    let held = report.claims.len() - broken.len() - unchecked;
    let mut line = format!("{held} of {} claims held in {took:.1} s", report.claims.len());
    if unchecked > 0 {
        line += &format!("; {unchecked} not checked");
    }
    if !broken.is_empty() {
        line += &format!("; broken: {}", broken.join(", "));
    }
    if let Some(error) = &report.error {
        line += &format!("; the story ended early: {error}");
    }
    line
}

/// Seconds with millisecond precision, as the JSON form tells them.
fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}
