//! The roles as a terminal or a container runs them: real processes, their flags, their files, their exit codes; and
//! hostile questions to the authorizer over the network.
//!
//! Knows how to run one of the programs, and how keys and tokens are made with them. What has to hold is in the
//! modules, a subject each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod commands;

mod authz;

mod serving;

mod hostile;

mod end_to_end;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_demo5-authz-server");
const BACKEND: &str = env!("CARGO_BIN_EXE_demo5-backend");
const CLIENT: &str = env!("CARGO_BIN_EXE_demo5-client");
const TOKEN: &str = env!("CARGO_BIN_EXE_demo5-token");

/// The program with none of the variables that it reads.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in [
        "LISTEN",
        "JWKS",
        "POLICIES",
        "ISSUER",
        "AUDIENCE",
        "SKEW",
        "TRUST_DOMAIN",
        "METRICS",
        "DECISION_LOG",
        "SHUTDOWN_DELAY",
        "TARGET",
        "TOKEN_FILE",
        "SIGNING_KEY",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

fn run(program: &str, args: &[&str]) -> Output {
    command(program).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key pair in a folder, as `demo5-token` makes it.
fn keys() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let output = run(TOKEN, &["keygen", "--out", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    folder
}

fn issue_token(keys: &Path, args: &[&str]) -> String {
    let key = keys.join("signing-key.pem");
    let output = run(TOKEN, &[&["issue", "--key", key.to_str().unwrap()], args].concat());
    assert!(output.status.success(), "{output:?}");
    let token = text(&output.stdout);
    assert_eq!(token.lines().count(), 1);
    token.trim().to_owned()
}
