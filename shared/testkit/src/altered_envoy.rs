//! Programs to give to `--envoy` that are not quite Envoy: the real one with an altered configuration, and scripts.
//!
//! A demo that runs with one of these has a mesh that truly does not do what the demo claims.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "in a test a panic is a finding")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Returns the Envoy that a demo would run. Blocks: call it outside of a tokio runtime.
pub fn real() -> PathBuf {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let choice = std::env::var_os("ENVOY").filter(|path| !path.is_empty());
    runtime.block_on(shared::tools::envoy(choice.as_deref().map(Path::new))).unwrap().path
}

/// Writes a program that runs the real Envoy with its arguments, the configuration among them, edited by this sed
/// expression.
pub fn edited(folder: &Path, sed: &str) -> PathBuf {
    let edit = format!(
        "for argument; do shift; set -- \"$@\" \"$(printf %s \"$argument\" | sed -e '{sed}')\"; done"
    );
    script(folder, &format!("{edit}\nexec '{}' \"$@\"", real().display()))
}

/// Writes a program that runs the real Envoy with `more` merged into its configuration.
pub fn with_more_configuration(folder: &Path, more: &Value) -> PathBuf {
    let file = folder.join("more.json");
    fs::write(&file, more.to_string()).unwrap();
    // Envoy merges --config-yaml, which the demo gives, into the file's configuration.
    script(folder, &format!("exec '{}' --config-path '{}' \"$@\"", real().display(), file.display()))
}

/// Writes a program that answers `--version` as Envoy does, and otherwise runs these lines of shell script.
pub fn fake_envoy(folder: &Path, lines: &str) -> PathBuf {
    let version = "envoy  version: 0/1.40.0/Clean/RELEASE/BoringSSL";
    script(folder, &format!("[ \"$1\" = --version ] && {{ echo '{version}'; exit 0; }}\n{lines}"))
}

fn script(folder: &Path, lines: &str) -> PathBuf {
    let path = folder.join("envoy");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
