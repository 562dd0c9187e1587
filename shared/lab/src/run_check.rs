//! One check from start to end: a copy of the files, the checker, and nothing left running.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::check_context::CheckContext;
use crate::exercise::Exercise;
use crate::folder::copy;
use crate::requirement::Requirement;
use crate::seeded_rng::SeededRng;
use crate::tools::Tools;
use shared::lifecycle::{GRACE, Lifecycle};

/// How long a check may take in all. One takes a second or two, and about ten with a Prometheus.
const LIMIT: Duration = Duration::from_secs(120);

/// What a check found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// What the task asks for, in the order in which it was looked at.
    pub requirements: Vec<Requirement>,
    /// What the student's program printed, if it is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub printed: String,
    /// How long it took.
    pub seconds: f64,
}

impl Outcome {
    /// Whether everything is met that the task asks for, and it asked for something.
    pub fn solved(&self) -> bool {
        !self.requirements.is_empty() && self.requirements.iter().all(|one| one.met)
    }

    /// The first requirement that is not met: what a student reads first.
    pub fn first_unmet(&self) -> Option<&Requirement> {
        self.requirements.iter().find(|one| !one.met)
    }
}

impl Exercise {
    /// Checks the files of these folders, each laid over those before.
    ///
    /// # Errors
    /// What is not the files' fault: a program that is missing, a machine that refuses.
    pub async fn run_check(
        &self,
        folders: &[&Path],
        seed: u32,
        tools: &Tools,
        life: &Lifecycle,
    ) -> anyhow::Result<Outcome> {
        let begun = Instant::now();
        let copied = tempfile::tempdir().context("no temporary folder for a check")?;
        for folder in folders {
            copy(folder, copied.path()).with_context(|| format!("cannot copy {}", folder.display()))?;
        }
        let scope = life.child();
        let mut context = CheckContext::new(copied, SeededRng::new(seed, self.folder), tools, &scope, life);
        let checked = tokio::time::timeout(LIMIT, (self.check)(&mut context)).await;
        scope.shut_down(GRACE).await?;
        match checked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => context.note(error.downcast::<Requirement>()?),
            Err(_) => context.note(Requirement::unmet(
                "the check comes to its end",
                format!("less than {LIMIT:?}"),
                format!("after {LIMIT:?} it was cut off"),
                "What in the files could make somebody wait for ever?",
            )),
        }
        let (requirements, printed) = context.finish();
        let seconds = (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        Ok(Outcome { requirements, printed, seconds })
    }
}
