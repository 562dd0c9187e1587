//! What a checker works with: a copy of the files, values to fill in, a scope, and where it notes what it found.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Requirement, SeededRng, Tools};
use shared::lifecycle::Lifecycle;
use shared::stats;
use shared::tools::Program;

/// What a student's program printed, at most so much of it.
const MAX_OUTPUT: usize = 4096;

/// A checker's place of work. Everything on it ends with the check.
#[derive(Debug)]
pub struct CheckContext {
    /// Values for this check.
    pub rng: SeededRng,
    /// The check's scope: what runs in it ends with it.
    pub life: Lifecycle,
    /// The command's scope. For what takes long to bring about and is the same for each check with the same values.
    pub session: Lifecycle,
    folder: TempDir,
    tools: Tools,
    requirements: Vec<Requirement>,
    printed: String,
}

impl CheckContext {
    pub(super) fn new(
        folder: TempDir,
        rng: SeededRng,
        tools: &Tools,
        life: &Lifecycle,
        session: &Lifecycle,
    ) -> Self {
        Self {
            rng,
            life: life.clone(),
            session: session.clone(),
            folder,
            tools: tools.clone(),
            requirements: Vec::new(),
            printed: String::new(),
        }
    }

    /// The folder with the copy of the files; a checker may write to it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a file of the exercise is.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder().join(file)
    }

    /// The names of all files, in order; those in folders come with the folder's.
    ///
    /// # Errors
    /// If the copy cannot be read.
    pub fn files(&self) -> std::io::Result<Vec<String>> {
        let files = super::folder::files(self.folder())?;
        Ok(files.into_iter().map(|file| file.to_string_lossy().into_owned()).collect())
    }

    /// A file's text.
    ///
    /// # Errors
    /// A [`Requirement`] if it is not there or no text.
    pub fn text(&self, file: &str) -> Result<String, Requirement> {
        fs::read_to_string(self.path(file)).map_err(|error| {
            let seen = match error.kind() {
                std::io::ErrorKind::NotFound => format!("there is no {file}"),
                _ => format!("{file} cannot be read ({error})"),
            };
            let advice = "It comes from the exercise's folder start/; take it from there again.";
            Requirement::unmet(format!("{file} is there"), "that file", seen, advice)
        })
    }

    /// A file's text with each `${NAME}` replaced by its value.
    ///
    /// # Errors
    /// A [`Requirement`] if the file is not there, or names what has no value.
    pub fn render(&self, file: &str, values: &[(&str, String)]) -> Result<String, Requirement> {
        let text = self.text(file)?;
        let mut filled = String::with_capacity(text.len());
        for (number, line) in text.lines().enumerate() {
            let mut rest = line;
            while let Some((before, after)) = rest.split_once("${") {
                let (name, tail) = after.split_once('}').unwrap_or((after, ""));
                let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
                    let known: Vec<_> = values.iter().map(|(known, _)| format!("${{{known}}}")).collect();
                    return Err(Requirement::unmet(
                        format!("{file} names only what there is"),
                        format!("only {}", known.join(", ")),
                        format!("line {} of {file} has ${{{name}}}, which is nothing here", number + 1),
                        "Ports and names differ in each check, so they stand for what is filled in.",
                    ));
                };
                filled.push_str(before);
                filled.push_str(value);
                rest = tail;
            }
            filled.push_str(rest);
            filled.push('\n');
        }
        Ok(filled)
    }

    /// Notes a requirement with what was seen.
    pub fn require(
        &mut self,
        what: impl Display,
        expected: impl Display,
        seen: impl Display,
        met: bool,
        advice: impl Display,
    ) {
        self.note(Requirement { met, ..Requirement::unmet(what, expected, seen, advice) });
    }

    /// Notes the requirement that `name` gets this share of the calls, within what chance allows.
    pub fn require_share(&mut self, name: &str, share: f64, (got, of): (u64, u64), advice: impl Display) {
        let acceptance_interval = stats::acceptance_interval(of, share);
        self.require(
            format!("{name} gets {} % of the calls", in_percent(share)),
            format!("{} % ± {} %", in_percent(share), in_percent(stats::reach(of, share))),
            format!("{} % of {of} calls went to {name}", in_percent(got as f64 / of.max(1) as f64)),
            of > 0 && acceptance_interval.contains(&got),
            advice,
        );
    }

    pub(super) fn note(&mut self, requirement: Requirement) {
        self.requirements.push(requirement);
    }

    /// Whether everything that was noted so far is met.
    pub fn all_met(&self) -> bool {
        self.requirements.iter().all(|one| one.met)
    }

    /// The Envoy to use; found or installed at the first call.
    ///
    /// # Errors
    /// [`SetupError`](shared::cli::SetupError) if there is none.
    pub async fn envoy_program(&self) -> anyhow::Result<Program> {
        self.tools.envoy().await
    }

    /// Keeps what a student's program printed: it is how many people look for a mistake.
    pub(super) fn record_output(&mut self, text: &str) {
        let room = MAX_OUTPUT.saturating_sub(self.printed.len());
        self.printed.extend(text.chars().take(room));
    }

    pub(super) fn finish(self) -> (Vec<Requirement>, String) {
        (self.requirements, self.printed)
    }
}

/// A share with at most one digit after the point.
fn in_percent(share: f64) -> String {
    let percent = (share * 1000.0).round() / 10.0;
    percent.to_string()
}
