//! What a grader asks for, exercises checked and handed in as JSON, and a teacher, exercises proven.
//!
//! Does not know how an exercise is checked, nor how what was found is told to a student.

use super::super::output::{self, Grade, Graded};
use super::super::workspace::State;
use super::super::{Exercise, Outcome};
use super::Session;
use shared::report::line_out;

impl Session<'_> {
    /// Earlier exercises that were solved, were changed since, and are not solved any more.
    pub(super) async fn regressions(&mut self, number: usize) -> anyhow::Result<Vec<Graded>> {
        let mut broke = Vec::new();
        for earlier in 1..number {
            let exercise = self.exercise(earlier)?;
            if self.workspace.state(self.lab, &exercise) == State::Changed {
                let graded = self.graded(earlier, &exercise).await?;
                if !graded.solved {
                    broke.push(graded);
                }
            }
        }
        Ok(broke)
    }

    async fn graded(&mut self, number: usize, exercise: &Exercise) -> anyhow::Result<Graded> {
        let begun = self.workspace.state(self.lab, exercise) != State::NotBegun;
        let outcome = if begun { self.outcome(exercise).await? } else { Outcome::default() };
        let solved = outcome.solved();
        let state = match (begun, solved) {
            (false, _) => State::NotBegun,
            (true, false) => State::Begun,
            (true, true) => State::Solved,
        };
        Ok(Graded {
            number,
            folder: exercise.folder.to_owned(),
            title: self.lab.title(exercise)?,
            state: state.text(),
            solved,
            outcome,
        })
    }

    pub(super) async fn grade(&mut self, number: usize, exercise: &Exercise) -> anyhow::Result<bool> {
        let graded = self.graded(number, exercise).await?;
        let broke = self.regressions(number).await?;
        Ok(self.print_grade(vec![graded], broke))
    }

    pub(super) async fn grade_all(&mut self) -> anyhow::Result<bool> {
        let mut all = Vec::new();
        for number in 1..=self.lab.exercises.len() {
            let exercise = self.exercise(number)?;
            all.push(self.graded(number, &exercise).await?);
        }
        Ok(self.print_grade(all, Vec::new()))
    }

    fn print_grade(&self, exercises: Vec<Graded>, broke: Vec<Graded>) -> bool {
        let solved = exercises.iter().all(|one| one.solved);
        Grade { demo: self.lab.demo, seed: self.seed, solved, exercises, broke }.print();
        solved
    }

    pub(super) async fn verify(&self, number: Option<usize>) -> anyhow::Result<bool> {
        line_out(&format!("Exercises of {}, proven with seed {}:\n", self.lab.demo, self.seed));
        let proofs = self.lab.verify(number, self.seed, &self.tools, self.life, output::proof).await?;
        let held = proofs.iter().filter(|proof| proof.held).count();
        line_out(&format!("\n{held} of {} are as they should be.", proofs.len()));
        Ok(held == proofs.len())
    }
}
