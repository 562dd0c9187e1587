//! What stands in an exercise's folder for people to read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Exercise, Lab};

impl Lab {
    /// The folder of an exercise.
    pub(super) fn folder_of(&self, exercise: &Exercise) -> PathBuf {
        self.folder.join(exercise.folder)
    }

    /// The exercise with this number, from 1.
    pub(super) fn number(&self, number: usize) -> Option<&Exercise> {
        number.checked_sub(1).and_then(|at| self.exercises.get(at))
    }

    /// The task, as it stands in the README.
    pub(super) fn task(&self, exercise: &Exercise) -> anyhow::Result<String> {
        read(&self.folder_of(exercise).join("README.md"))
    }

    /// The README's first heading.
    pub(super) fn title(&self, exercise: &Exercise) -> anyhow::Result<String> {
        let task = self.task(exercise)?;
        let title = task.lines().find_map(|line| line.strip_prefix("# "));
        title.map(str::to_owned).with_context(|| format!("the README of {} has no heading", exercise.folder))
    }

    /// The hints, each under a heading of its own.
    pub(super) fn hints(&self, exercise: &Exercise) -> anyhow::Result<Vec<String>> {
        let text = read(&self.folder_of(exercise).join("hints.md"))?;
        Ok(format!("\n{text}").split("\n## ").skip(1).map(|hint| hint.trim().to_owned()).collect())
    }

    /// The wrong solutions, by name.
    pub(super) fn wrong(&self, exercise: &Exercise) -> anyhow::Result<Vec<String>> {
        let folder = self.folder_of(exercise).join("wrong");
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
        let mut names: Vec<String> =
            names?.into_iter().map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// What a wrong solution has to be told; `None` for the starting state.
    pub(super) fn expected_failure(
        &self,
        exercise: &Exercise,
        wrong: Option<&str>,
    ) -> anyhow::Result<String> {
        let folder = self.folder_of(exercise);
        let folder = wrong.map_or_else(|| folder.clone(), |name| folder.join("wrong").join(name));
        read(&folder.join("expected-failure.txt")).map(|text| text.trim().to_owned())
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
