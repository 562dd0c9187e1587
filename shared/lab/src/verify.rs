//! The proof of the exercises themselves: solutions pass, the rest fails, each for its own reason.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use futures::StreamExt;

use super::{Exercise, Lab, Outcome, Tools, sentence_says};
use shared::lifecycle::Lifecycle;

/// How many checks run at once. They wait for programs more than they compute.
const AT_ONCE: usize = 2;

/// The fewest hints and wrong solutions that an exercise has.
const FEWEST: usize = 2;

/// One thing about an exercise that was tried.
#[derive(Clone, Debug)]
pub struct Proof {
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
enum Wanted {
    Solved,
    /// The first thing that is said has to say this.
    Says(String),
}

struct Case {
    exercise: Exercise,
    name: String,
    folders: Vec<PathBuf>,
    wanted: Wanted,
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
        mut show: impl FnMut(&Proof),
    ) -> anyhow::Result<Vec<Proof>> {
        let mut proofs = self.folders_are_known()?;
        let mut cases = Vec::new();
        for (at, exercise) in self.exercises.iter().enumerate() {
            if only.is_none_or(|number| number == at + 1) {
                proofs.push(self.is_whole(exercise)?);
                cases.extend(self.cases(exercise)?);
            }
        }
        proofs.iter().for_each(&mut show);
        let running = cases.into_iter().map(|case| case.prove(seed, tools, life));
        let mut running = futures::stream::iter(running).buffered(AT_ONCE);
        while let Some(proof) = running.next().await {
            let proof = proof?;
            show(&proof);
            proofs.push(proof);
        }
        Ok(proofs)
    }

    fn cases(&self, exercise: &Exercise) -> anyhow::Result<Vec<Case>> {
        let place = self.place(exercise);
        let start = place.join("start");
        let case = |name: &str, folders, wanted| Case {
            exercise: *exercise,
            name: name.to_owned(),
            folders,
            wanted,
        };
        let mut cases = vec![
            case("solution", vec![start.clone(), place.join("solution")], Wanted::Solved),
            case("start", vec![start.clone()], Wanted::Says(self.says(exercise, None)?)),
        ];
        for wrong in self.wrong(exercise)? {
            let name = format!("wrong/{wrong}");
            let folders = vec![start.clone(), place.join(&name)];
            cases.push(case(&name, folders, Wanted::Says(self.says(exercise, Some(&wrong))?)));
        }
        Ok(cases)
    }

    /// Every folder is an exercise, and in the order of its number.
    fn folders_are_known(&self) -> anyhow::Result<Vec<Proof>> {
        let known: Vec<&str> = self.exercises.iter().map(|exercise| exercise.folder).collect();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.path().is_dir() {
                found.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        found.sort_unstable();
        let held = found == known;
        let seen = format!("folders {}", found.join(", "));
        Ok(vec![Proof { exercise: "", case: "folder".to_owned(), held, seen, seconds: 0.0 }])
    }

    /// A title, hints, wrong solutions, and a reason of its own for each.
    fn is_whole(&self, exercise: &Exercise) -> anyhow::Result<Proof> {
        let (title, hints, wrong) = (self.title(exercise)?, self.hints(exercise)?, self.wrong(exercise)?);
        let mut reasons = BTreeSet::new();
        for name in &wrong {
            reasons.insert(self.says(exercise, Some(name))?);
        }
        let held = hints.len() >= FEWEST && wrong.len() >= FEWEST && reasons.len() == wrong.len();
        let seen = format!(
            "{title}: {} hints, {} wrong solutions for {} reasons",
            hints.len(),
            wrong.len(),
            reasons.len()
        );
        Ok(Proof { exercise: exercise.folder, case: "folder".to_owned(), held, seen, seconds: 0.0 })
    }
}

impl Case {
    async fn prove(self, seed: u32, tools: &Tools, life: &Lifecycle) -> anyhow::Result<Proof> {
        let begun = Instant::now();
        let folders: Vec<_> = self.folders.iter().map(PathBuf::as_path).collect();
        let outcome = self.exercise.examine(&folders, seed, tools, life).await?;
        let (held, seen) = self.judge(&outcome);
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Proof { exercise: self.exercise.folder, case: self.name, held, seen, seconds })
    }

    fn judge(&self, outcome: &Outcome) -> (bool, String) {
        let first = outcome.first_unmet();
        match (&self.wanted, first) {
            (Wanted::Solved, None) => {
                (outcome.solved(), format!("{} requirements met", outcome.requirements.len()))
            }
            (Wanted::Solved, Some(unmet)) => (false, format!("not solved: {unmet}")),
            (Wanted::Says(wanted), None) => (false, format!("it passes, and was to be told: {wanted}")),
            (Wanted::Says(wanted), Some(unmet)) => {
                let said = unmet.to_string();
                let held = sentence_says(&said, wanted) && !wanted.is_empty() && !unmet.advice.is_empty();
                let missing = if held { String::new() } else { format!("; was to say: {wanted}") };
                (held, format!("refused: {said}{missing}"))
            }
        }
    }
}
