//! Which Prometheus is used, and what to do where there is none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::child;
use shared::tools::ToolFinder;
use tokio::process::Command;

use super::error::PrometheusError;

/// How long a program may take to tell its version.
const ANSWER: Duration = Duration::from_secs(20);

/// A Prometheus on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Its version by its own words.
    pub version: String,
}

/// The chosen Prometheus, or the first of `PATH` and the tool cache; `None` if there is none.
///
/// # Errors
/// If the chosen one does not run: another is not taken instead.
pub async fn find(choice: Option<&Path>) -> Result<Option<Program>, PrometheusError> {
    // `PROMETHEUS= cargo run ...` chooses none.
    if let Some(path) = choice.filter(|path| !path.as_os_str().is_empty()) {
        // A bare name would be looked up on PATH.
        let path = std::path::absolute(path).map_err(|_| PrometheusError::Unusable(path.to_owned()))?;
        let found = look_at(&path).await.ok_or(PrometheusError::Unusable(path))?;
        return Ok(Some(found));
    }
    let mut places = vec![PathBuf::from("prometheus")];
    if let Ok(tools) = ToolFinder::from_env() {
        // A release is a folder with the program in it.
        let unpacked = std::fs::read_dir(tools.cache).into_iter().flatten().flatten();
        places.extend(unpacked.map(|entry| entry.path().join("prometheus")).filter(|path| path.is_file()));
    }
    for place in places {
        if let Some(found) = look_at(&place).await {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

async fn look_at(path: &Path) -> Option<Program> {
    let mut command = Command::new(path);
    command.arg("--version");
    let output = child::output(command, ANSWER).await.ok()?;
    // Which of the two it is told on differs between versions.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let version = said.strip_prefix("prometheus, version ")?.split_whitespace().next()?;
    Some(Program { path: path.to_owned(), version: version.to_owned() })
}
