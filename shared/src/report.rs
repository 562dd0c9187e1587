//! What a run claims, expected and saw: the [`Report`], and the [`Recorder`] that tells it while it happens.
//!
//! All that is printed on stdout goes through here, but for demo 5's decision log. With `--json` stdout carries the
//! report and nothing else; for people it carries numbered steps as they happen, and a table of claims at the end.
//! Does not know what is measured.

mod recorder;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Serialize, Serializer};

pub use recorder::Recorder;

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
                let text = table(report).to_string();
                let text = if use_colour(&io::stdout()) { coloured(&text) } else { text + "\n" };
                line_out(&format!("\n{}", text.trim_end()));
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
        Err(error) if error.kind() != ErrorKind::BrokenPipe => _ = WRITE_ERROR.set(error),
        _ => {}
    }
}

/// Why the first line that could not be written to stdout was lost.
static WRITE_ERROR: OnceLock<io::Error> = OnceLock::new();

/// Why stdout lacks something that was printed, if it does: a full disk, for example. Whoever reads it must not
/// take what is there for the whole, so a program that finds this at its end fails.
pub fn write_error() -> Option<&'static io::Error> {
    WRITE_ERROR.get()
}

/// Prints one line on stderr, beside a story.
pub fn line_err(line: &str) {
    _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether colours may be used on this stream: it is a terminal, and the user did not turn them off
/// (<https://no-color.org>).
pub fn use_colour(on: &impl IsTerminal) -> bool {
    on.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    // Without a terminal, a width that fits a page.
    let (_, columns) = console::Term::stdout().size_checked().unwrap_or((0, 110));
    table.set_width(columns);
    table.set_header(["claim", "expected", "seen", "verdict"]);
    for claim in &report.claims {
        let (word, seen) = match &claim.verdict {
            Verdict::Held => ("held", &claim.seen),
            Verdict::Broken => ("BROKEN", &claim.seen),
            Verdict::NotChecked(why) => ("not checked", why),
        };
        table.add_row([&claim.claim, &claim.expected, seen, word]);
    }
    table
}

/// The table's text with each verdict in its colour. The verdicts' column is the last one, so that what follows
/// `verdict` in the heading's place is one.
fn coloured(table: &str) -> String {
    let at = table.lines().find_map(|line| Some(line[..line.find("verdict")?].chars().count()));
    let paint = |line: &str| {
        let split = line.char_indices().nth(at?).map(|(byte, _)| line.split_at(byte));
        let (before, verdict) = split?;
        let colour = match verdict.trim_end() {
            "held" => "32",
            "BROKEN" => "31",
            "not checked" => "33",
            _ => return None,
        };
        Some(format!("{before}\x1b[{colour}m{verdict}\x1b[0m"))
    };
    table.lines().map(|line| paint(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
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
