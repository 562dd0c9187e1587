//! What a student and a teacher read in the terminal, and what a grader reads as JSON.

use std::path::Path;

use serde::Serialize;

use super::{CaseResult, Outcome, Requirement};
use shared::report::line_out;

/// Where lines of prose are broken, in characters.
const WIDTH: usize = 100;

/// One exercise as a grader sees it.
#[derive(Debug, Serialize)]
pub(super) struct Graded {
    pub(super) number: usize,
    pub(super) folder: String,
    pub(super) title: String,
    /// `not begun`, `begun` or `solved`, by the check that was just made.
    pub(super) state: &'static str,
    pub(super) solved: bool,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// What was checked, for a grader.
#[derive(Debug, Serialize)]
pub(super) struct Grade {
    pub(super) demo: &'static str,
    pub(super) seed: u32,
    /// Whether everything is solved that was to be checked.
    pub(super) solved: bool,
    pub(super) exercises: Vec<Graded>,
    /// Exercises that had been solved before, and are not any more.
    pub(super) broke: Vec<Graded>,
}

impl Grade {
    pub(super) fn print(&self) {
        match serde_json::to_string_pretty(self) {
            Ok(json) => line_out(&json),
            Err(error) => tracing::error!(%error, "the grade has no JSON form"),
        }
    }
}

/// The requirements, one after the other, each with what was seen.
pub(super) fn outcome(outcome: &Outcome) {
    let mut advised = Vec::new();
    for one in &outcome.requirements {
        // Three shares that are wrong for one reason need the advice once.
        let again = advised.contains(&one.advice);
        advised.push(one.advice.clone());
        requirement(&Requirement {
            advice: if again { String::new() } else { one.advice.clone() },
            ..one.clone()
        });
    }
    if !outcome.printed.is_empty() {
        line_out("\nYour program printed:");
        outcome.printed.lines().for_each(|line| line_out(&format!("  | {line}")));
    }
}

fn requirement(one: &Requirement) {
    let mark = if one.met { "ok " } else { "NOT" };
    line_out(&format!("  {mark}  {}", one.what));
    for line in wrapped(&one.sentence(), WIDTH - 7) {
        line_out(&format!("       {line}"));
    }
}

pub(super) fn proof(proof: &CaseResult) {
    let mark = if proof.held { "ok " } else { "NOT" };
    line_out(&format!("  {mark}  {:<14} {:<24} {:5.1} s", proof.exercise, proof.case, proof.seconds));
    for line in wrapped(&proof.seen, WIDTH - 7) {
        line_out(&format!("       {line}"));
    }
}

/// A path as it is typed from here.
pub(super) fn path(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
    short.display().to_string()
}

/// Prose in lines of a width; what has several lines already is left as it is.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    if text.contains('\n') {
        return text.lines().map(str::to_owned).collect();
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
