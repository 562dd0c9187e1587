//! What is remembered between two commands: which files solved an exercise, and how many hints were read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::{copy, fingerprint};
use super::{Exercise, Lab};

/// A student's desk: where the work is, and what is remembered of it.
#[derive(Debug)]
pub(super) struct Workspace {
    /// The folder that holds a folder for each exercise; without it each exercise has its own `work`.
    root: Option<PathBuf>,
    file: PathBuf,
    progress: BTreeMap<String, Progress>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Progress {
    /// The fingerprint of the files that solved it last.
    solved: Option<String>,
    /// How many hints were given.
    hints: usize,
}

/// How far a student is with an exercise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is no work yet.
    NotBegun,
    /// There is work that does not solve it, or was not checked.
    Begun,
    /// The work was checked and solved it, and changed since.
    Changed,
    /// The work as it is solved it.
    Solved,
}

impl State {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::NotBegun => "not begun",
            Self::Begun => "begun",
            Self::Changed => "solved, changed since",
            Self::Solved => "solved",
        }
    }
}

impl Workspace {
    /// The desk of whoever works on this lab; `root` is where the work is, if not beside the tasks.
    pub(super) fn new(lab: &Lab, root: Option<&Path>) -> Self {
        let file = root.unwrap_or(&lab.folder).join(".remembered.json");
        // What cannot be read is forgotten: a check brings it back.
        let text = fs::read(&file).unwrap_or_default();
        let progress = serde_json::from_slice(&text).unwrap_or_default();
        Self { root: root.map(Path::to_owned), file, progress }
    }

    /// Where the work on an exercise is.
    pub(super) fn work(&self, lab: &Lab, exercise: &Exercise) -> PathBuf {
        match &self.root {
            Some(root) => root.join(exercise.folder),
            None => lab.folder_of(exercise).join("work"),
        }
    }

    /// Lays the starting files out, if there is no work yet. Work that is there is left alone.
    pub(super) fn begin(&self, lab: &Lab, exercise: &Exercise) -> io::Result<PathBuf> {
        let work = self.work(lab, exercise);
        if !work.exists() {
            fs::create_dir_all(&work)?;
            copy(&lab.folder_of(exercise).join("start"), &work)?;
            hand_over(&work);
        }
        Ok(work)
    }

    /// How far the work is, by what is remembered of it.
    pub(super) fn state(&self, lab: &Lab, exercise: &Exercise) -> State {
        let work = self.work(lab, exercise);
        if !work.is_dir() {
            return State::NotBegun;
        }
        let solved = self.progress.get(exercise.folder).and_then(|one| one.solved.as_ref());
        match (solved, fingerprint(&work)) {
            (None, _) => State::Begun,
            (Some(solved), Ok(now)) if *solved == now => State::Solved,
            (Some(_), _) => State::Changed,
        }
    }

    /// Remembers what came of a check of these files.
    pub(super) fn checked(&mut self, exercise: &Exercise, fingerprint: &str, solved: bool) {
        let one = self.progress.entry(exercise.folder.to_owned()).or_default();
        if solved {
            one.solved = Some(fingerprint.to_owned());
        } else if one.solved.as_deref() == Some(fingerprint) {
            // The same files solved it before; they do not any more.
            one.solved = None;
        }
        self.save();
    }

    /// The number of the next hint, from 0; counts it as given, unless it is the last one again.
    pub(super) fn next_hint(&mut self, exercise: &Exercise, there_are: usize) -> usize {
        let one = self.progress.entry(exercise.folder.to_owned()).or_default();
        let next = one.hints.min(there_are.saturating_sub(1));
        one.hints = next + 1;
        self.save();
        next
    }

    fn save(&self) {
        let written = serde_json::to_vec_pretty(&self.progress).map_err(io::Error::other);
        if let Err(error) = written.and_then(|text| fs::write(&self.file, text)) {
            tracing::warn!(%error, "cannot remember this in {}", self.file.display());
        }
        hand_over(&self.file);
    }
}

/// Gives what was made under sudo to whoever called it: a student has to edit it without.
fn hand_over(made: &Path) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let (Some(user), Some(group)) = (number("SUDO_UID"), number("SUDO_GID")) else { return };
    // Whoever is not root has nothing to give away, and keeps it.
    if lchown(made, Some(user), Some(group)).is_err() || made.is_symlink() {
        return;
    }
    for entry in fs::read_dir(made).into_iter().flatten().flatten() {
        hand_over(&entry.path());
    }
}
