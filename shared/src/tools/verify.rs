//! Is this program Envoy, and which one? It is asked: `envoy --version`.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::error::ToolError;
use super::program::{Program, Source, command};
use crate::child;

/// Runs `path --version` for at most `limit`, and believes a line of the form
/// `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
pub(super) async fn envoy(path: &Path, source: Source, limit: Duration) -> Result<Program, ToolError> {
    let mut asked = command(path, None);
    asked.arg("--version");
    let output = child::output(asked, limit).await.map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::TimedOut => ToolError::Hangs { path, limit },
            _ => ToolError::DoesNotStart { path, source },
        }
    })?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let version = text.lines().find_map(version).filter(|_| output.status.success());
    match version {
        Some(version) => Ok(Program { path: path.to_owned(), version: version.to_owned(), source }),
        None => Err(ToolError::NotEnvoy { path: path.to_owned(), printed: first_line(&text) }),
    }
}

fn version(line: &str) -> Option<&str> {
    let (_, build) = line.split_once(" version: ")?;
    let mut parts = build.split('/');
    let (_commit, version) = (parts.next()?, parts.next()?);
    // The state of the source tree follows in every build; another program's `version: a/b` has none.
    let _tree = parts.next()?;
    let numeric = version.split('.').take(2).all(|part| part.parse::<u32>().is_ok());
    (numeric && version.contains('.')).then_some(version)
}

/// Enough to recognise a program by, and not more: it may print anything.
fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("nothing").chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn only_envoys_version_line_is_accepted() {
        let real = "/opt/envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(version(real), Some("1.40.0"));
        assert_eq!(version("envoy  version: 0/1.41.0-dev/Modified/DEBUG/BoringSSL"), Some("1.41.0-dev"));
        assert_eq!(version("Laravel Envoy 2.10.0"), None);
        assert_eq!(version("nginx version: nginx/1.22.1"), None);
        assert_eq!(version("tool version: a/b/c"), None);
        assert_eq!(version(""), None);
    }
}
