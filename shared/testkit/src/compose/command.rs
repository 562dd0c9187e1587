//! The command lines of Docker and Compose: which Compose there is, which variables it gets, and why it failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

use shared::child;

/// How long any command may take that builds nothing.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a stack is not up, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// There is no Compose that can read our files.
    #[error(
        "no Docker Compose 2.24 or later: install it (Debian: docker-compose-v2), or, for a command of \
         another name: COMPOSE=$(.ci/compose) ({seen})"
    )]
    Missing {
        /// What was seen instead.
        seen: String,
    },
    /// A command failed.
    #[error("{command} failed:\n{output}")]
    Failed {
        /// The command line.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A command could not be run, or took too long.
    #[error("cannot run {command}: {why}")]
    NotRun {
        /// The command line.
        command: String,
        /// What the system said.
        why: io::Error,
    },
    /// The compiled programs could not be laid out for the image.
    #[error("cannot put {} into dist/: {why}", program.display())]
    Dist {
        /// The program.
        program: PathBuf,
        /// What the system said.
        why: io::Error,
    },
}

/// The command line of one project.
#[derive(Debug)]
pub(super) struct Compose {
    pub(super) program: Vec<String>,
    pub(super) file: PathBuf,
    pub(super) project: String,
    pub(super) variables: Vec<(String, String)>,
}

impl Compose {
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program[0]);
        command
            .args(&self.program[1..])
            .arg("--file")
            .arg(&self.file)
            .args(["--project-name", &self.project, "--progress", "plain"])
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(super) async fn run(&self, arguments: &[&str], limit: Duration) -> Result<String, ComposeError> {
        run(self.command(arguments), limit).await
    }
}

/// `$COMPOSE`, or Docker's own plugin if it is new enough, as words.
pub(super) async fn program() -> Result<Vec<String>, ComposeError> {
    let words = match std::env::var("COMPOSE") {
        Ok(command) if command == "docker compose" => vec!["docker".to_owned(), "compose".to_owned()],
        // A path, which may hold spaces.
        Ok(program) if !program.is_empty() => vec![program],
        _ => vec!["docker".to_owned(), "compose".to_owned()],
    };
    let mut asking = Command::new(&words[0]);
    asking.args(&words[1..]).args(["version", "--short"]);
    let seen = match run(asking, COMMAND_TIMEOUT).await {
        Ok(version) if is_new_enough(version.trim()) => return Ok(words),
        Ok(version) => format!("{} is {}", words.join(" "), version.trim()),
        Err(error) => error.to_string().trim().to_owned(),
    };
    Err(ComposeError::Missing { seen })
}

/// Whether this is 2.24 or later.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(|number| number.parse::<u32>().ok());
    let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
    major.zip(minor) >= Some((2, 24))
}

pub(super) async fn docker(arguments: &[&str]) -> Result<String, ComposeError> {
    let mut command = Command::new("docker");
    command.args(arguments);
    run(command, COMMAND_TIMEOUT).await
}

async fn run(command: Command, limit: Duration) -> Result<String, ComposeError> {
    let line = {
        let command = command.as_std();
        let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
        let program = command.get_program().to_string_lossy().into_owned();
        std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
    };
    match child::output(command, limit).await {
        Err(why) => Err(ComposeError::NotRun { command: line, why }),
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            let output = [output.stdout, output.stderr].concat();
            Err(ComposeError::Failed { command: line, output: String::from_utf8_lossy(&output).into_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn an_old_compose_version_is_recognized() {
        for (version, expected) in [
            ("1.29.2", false),
            ("2.23.3", false),
            ("2.24.0", true),
            ("v2.40.3", true),
            ("2.40.3-desktop.1", true),
            ("3.0.0", true),
            ("5.0.0-rc.1", true),
            ("", false),
            ("unknown", false),
        ] {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
    }
}
