//! This workspace as Cargo sees it: the crates, what they declare, and the packages that they resolve to.
//!
//! Cargo is run offline first. A machine that compiled the tests has the packages: the network is only needed
//! after Cargo removed them from its cache.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// The platform whose packages are counted and checked, so that every machine gets the same figures.
///
/// The demos' containers run on it. Other platforms add packages that this workspace never compiles.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Why Cargo did not describe the workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Cargo did not start.
    #[error("cannot run cargo: {0}; is it in PATH?")]
    Start(#[from] std::io::Error),
    /// Cargo failed offline, and then with the network.
    #[error("cargo {command} failed: {stderr}")]
    Failed {
        /// Its arguments.
        command: String,
        /// What it printed the second time.
        stderr: String,
    },
    /// Cargo printed JSON with another shape than `cargo metadata` documents.
    #[error("cannot read the output of cargo metadata: {0}")]
    Metadata(#[from] serde_json::Error),
}

/// A crate of this workspace.
#[derive(Debug, Deserialize)]
pub struct Member {
    /// The package's name.
    pub name: String,
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// Its libraries, programs, tests and benchmarks.
    pub targets: Vec<Target>,
    /// What its `Cargo.toml` declares, optional dependencies included.
    pub dependencies: Vec<Dependency>,
    /// What each of its features enables.
    pub features: BTreeMap<String, Vec<String>>,
}

impl Member {
    /// Returns the folder with the crate's `Cargo.toml`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    /// Returns the root files of the library and of each program.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        let of_interest = |target: &&Target| target.kind.iter().any(|kind| kind == "lib" || kind == "bin");
        self.targets.iter().filter(of_interest).map(|target| target.src_path.as_path())
    }
}

/// A library, program, test or benchmark of a crate.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// `lib`, `bin`, `test`, ...
    pub kind: Vec<String>,
    /// Its root file.
    pub src_path: PathBuf,
}

/// One dependency, as `Cargo.toml` declares it.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
    /// Whether a feature must enable it.
    pub optional: bool,
}

/// A package that Cargo resolved to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence expression, empty if it declares none.
    pub license: String,
}

/// Returns the workspace's top folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("/")).to_owned()
}

/// Returns the crates of this workspace.
///
/// # Errors
/// Cargo cannot be run, fails, or prints something unexpected.
pub fn members() -> Result<Vec<Member>, WorkspaceError> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Member>,
    }
    let json = cargo(&["metadata", "--format-version", "1", "--no-deps"])?;
    Ok(serde_json::from_str::<Metadata>(&json)?.packages)
}

/// Returns the packages in `cargo tree` with these options, for example `["-p", "shared", "-e", "normal"]`.
///
/// # Errors
/// Cargo cannot be run, or fails.
pub fn tree(options: &[&str]) -> Result<BTreeSet<Package>, WorkspaceError> {
    let fixed = ["tree", "--target", PLATFORM, "--prefix", "none", "--format", "{p}|{l}"];
    Ok(cargo(&[&fixed, options].concat())?.lines().filter_map(package).collect())
}

/// Parses a line like `syn v3.0.10 (proc-macro)|MIT OR Apache-2.0 (*)`. A blank line separates crates.
fn package(line: &str) -> Option<Package> {
    let (package, license) = line.split_once('|')?;
    let mut words = package.split(' ');
    Some(Package {
        name: words.next()?.to_owned(),
        version: words.next()?.trim_start_matches('v').to_owned(),
        license: license.trim_end_matches(" (*)").to_owned(),
    })
}

fn cargo(arguments: &[&str]) -> Result<String, WorkspaceError> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let run = |network: &[&str]| {
        Command::new(&program).args(arguments).arg("--locked").args(network).current_dir(root()).output()
    };
    let mut output = run(&["--offline"])?;
    if !output.status.success() {
        output = run(&[])?;
    }
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(WorkspaceError::Failed { command: arguments.join(" "), stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_cargo_tree_is_a_package() {
        let expected = |license: &str| {
            Some(Package {
                name: "syn".to_owned(),
                version: "3.0.10".to_owned(),
                license: license.to_owned(),
            })
        };
        assert_eq!(package("syn v3.0.10 (proc-macro)|MIT OR Apache-2.0 (*)"), expected("MIT OR Apache-2.0"));
        assert_eq!(package("syn v3.0.10|"), expected(""));
        assert_eq!(package(""), None);
    }
}
