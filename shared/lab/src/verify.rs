//! The proof of the exercises themselves: solutions pass, the rest fails, each for its own reason.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use futures::StreamExt;

use super::{Exercise, Lab, Outcome, Tools, matches_pattern};
use shared::lifecycle::Lifecycle;

/// How many checks run at once. They wait for programs more than they compute.
const MAX_PARALLEL: usize = 2;

/// The fewest hints and wrong solutions that an exercise has.
const MIN_COUNT: usize = 2;

/// One thing about an exercise that was tried.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// The exercise's folder.
    pub exercise: &'static str,
    /// `solution`, `start`, `wrong/NAME`, or `folder`.
    pub case: String,
    /// Whether it is as it should be.
    pub held: bool,
    /// What was seen.
    pub seen: String,
    /// How long it took.
    pub seconds: f64,
}

/// What a case is to bring about.
enum Expected {
    Solved,
    /// The first thing that is said has to say this.
    FailsWith(String),
}

struct Case {
    exercise: Exercise,
    name: String,
    folders: Vec<PathBuf>,
    wanted: Expected,
}

impl Lab {
    /// Tries every case of every exercise, or of the one with this number, and hands on each proof as it is done.
    ///
    /// # Errors
    /// What is not an exercise's fault: a missing program, a folder that cannot be read.
    pub async fn verify(
        &self,
        only: Option<usize>,
        seed: u32,
        tools: &Tools,
        life: &Lifecycle,
        mut show: impl FnMut(&CaseResult),
    ) -> anyhow::Result<Vec<CaseResult>> {
        let mut proofs = self.check_folders()?;
        let mut cases = Vec::new();
        for (at, exercise) in self.exercises.iter().enumerate() {
            if only.is_none_or(|number| number == at + 1) {
                proofs.push(self.check_exercise(exercise)?);
                cases.extend(self.cases(exercise)?);
            }
        }
        proofs.iter().for_each(&mut show);
        let running = cases.into_iter().map(|case| case.prove(seed, tools, life));
        let mut running = futures::stream::iter(running).buffered(MAX_PARALLEL);
        while let Some(proof) = running.next().await {
            let proof = proof?;
            show(&proof);
            proofs.push(proof);
        }
        Ok(proofs)
    }

    fn cases(&self, exercise: &Exercise) -> anyhow::Result<Vec<Case>> {
        let folder = self.folder_of(exercise);
        let start = folder.join("start");
        let case = |name: &str, folders, wanted| Case {
            exercise: *exercise,
            name: name.to_owned(),
            folders,
            wanted,
        };
        let mut cases = vec![
            case("solution", vec![start.clone(), folder.join("solution")], Expected::Solved),
            case("start", vec![start.clone()], Expected::FailsWith(self.expected_failure(exercise, None)?)),
        ];
        for wrong in self.wrong(exercise)? {
            let name = format!("wrong/{wrong}");
            let folders = vec![start.clone(), folder.join(&name)];
            cases.push(case(
                &name,
                folders,
                Expected::FailsWith(self.expected_failure(exercise, Some(&wrong))?),
            ));
        }
        Ok(cases)
    }

    /// Checks that the folders with a number are the exercises, in this order. A crate's own folders may be beside them.
    fn check_folders(&self) -> anyhow::Result<Vec<CaseResult>> {
        let known: Vec<&str> = self.exercises.iter().map(|exercise| exercise.folder).collect();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() && name.starts_with(|first: char| first.is_ascii_digit()) {
                found.push(name);
            }
        }
        found.sort_unstable();
        let held = found == known;
        let seen = format!("folders {}", found.join(", "));
        Ok(vec![CaseResult { exercise: "", case: "folder".to_owned(), held, seen, seconds: 0.0 }])
    }

    /// A title, hints, wrong solutions, and a reason of its own for each.
    fn check_exercise(&self, exercise: &Exercise) -> anyhow::Result<CaseResult> {
        let (title, hints, wrong) = (self.title(exercise)?, self.hints(exercise)?, self.wrong(exercise)?);
        let mut reasons = BTreeSet::new();
        for name in &wrong {
            reasons.insert(self.expected_failure(exercise, Some(name))?);
        }
        let held = hints.len() >= MIN_COUNT && wrong.len() >= MIN_COUNT && reasons.len() == wrong.len();
        let seen = format!(
            "{title}: {} hints, {} wrong solutions for {} reasons",
            hints.len(),
            wrong.len(),
            reasons.len()
        );
        Ok(CaseResult { exercise: exercise.folder, case: "folder".to_owned(), held, seen, seconds: 0.0 })
    }
}

impl Case {
    async fn prove(self, seed: u32, tools: &Tools, life: &Lifecycle) -> anyhow::Result<CaseResult> {
        let begun = Instant::now();
        let folders: Vec<_> = self.folders.iter().map(PathBuf::as_path).collect();
        let outcome = self.exercise.run_check(&folders, seed, tools, life).await?;
        let (held, seen) = self.evaluate(&outcome);
        let seconds = begun.elapsed().as_secs_f64();
        Ok(CaseResult { exercise: self.exercise.folder, case: self.name, held, seen, seconds })
    }

    fn evaluate(&self, outcome: &Outcome) -> (bool, String) {
        let first = outcome.first_unmet();
        match (&self.wanted, first) {
            (Expected::Solved, None) => {
                (outcome.solved(), format!("{} requirements met", outcome.requirements.len()))
            }
            (Expected::Solved, Some(unmet)) => (false, format!("not solved: {unmet}")),
            (Expected::FailsWith(wanted), None) => {
                (false, format!("it passes, and was to be told: {wanted}"))
            }
            (Expected::FailsWith(wanted), Some(unmet)) => {
                let message = unmet.to_string();
                let held =
                    matches_pattern(&message, wanted) && !wanted.is_empty() && !unmet.advice.is_empty();
                let missing = if held { String::new() } else { format!("; was to say: {wanted}") };
                (held, format!("refused: {message}{missing}"))
            }
        }
    }
}
