//! The commands of the READMEs, run as they stand there, and what they print held to what is shown.
//!
//! The convention is in CONTRIBUTING.md: a block marked `sh run` is run, and a block marked `text printed` is
//! what the runnable block before it prints. One README's blocks of one kind are one session of one shell.
//!
//! ```text
//! README ── blocks.rs ──> blocks ── session.rs ──> bash ──> what was printed ── compare.rs ──> as shown?
//! ```

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

mod blocks;
mod compare;
mod links;
mod session;

use std::path::{Path, PathBuf};

use blocks::{Block, Need};
use shared::report;
use tokio::sync::Mutex;

/// One session at a time: the lab ports that READMEs name exist once.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap()
}

/// Every README of the workspace: its own, and its crates'.
fn readmes() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    let entries = [root(), root().join("shared")].map(|folder| std::fs::read_dir(folder).unwrap());
    for entry in entries.into_iter().flatten() {
        let folder = entry.unwrap().path();
        if folder.join("Cargo.toml").is_file() {
            found.push(folder.join("README.md"));
        }
    }
    found.sort();
    found
}

fn blocks_of(readme: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(readme).unwrap();
    blocks::read(&text).unwrap_or_else(|error| panic!("{}: {error}", readme.display()))
}

/// Runs what needs just this, README after README, and reports everything that is not as it says.
async fn run_all(need: Need) {
    let _guard = ONE_AT_A_TIME.lock().await;
    session::compile(&root()).await;
    let (mut commands, mut findings) = (0, Vec::new());
    for readme in readmes() {
        let blocks: Vec<Block> = blocks_of(&readme).into_iter().filter(|block| block.need == need).collect();
        if blocks.is_empty() {
            continue;
        }
        commands += blocks.iter().map(|block| block.commands.len()).sum::<usize>();
        let name = readme.strip_prefix(root()).unwrap().display().to_string();
        let began = std::time::Instant::now();
        if let Err(finding) = session::run(&root(), &blocks, need).await {
            findings.push(format!("{name}:{finding}"));
        }
        report::line_out(&format!("{name}: {} blocks in {:.1?}", blocks.len(), began.elapsed()));
    }
    assert!(commands > 0, "no README has a command of this kind: {need:?}");
    assert!(findings.is_empty(), "\n{}", findings.join("\n\n"));
}

#[tokio::test]
async fn commands_do_what_the_readmes_say() {
    run_all(Need::Nothing).await;
}

#[tokio::test]
#[ignore = "takes a minute or two: whole stories"]
async fn slow_commands_do_what_the_readmes_say() {
    run_all(Need::Time).await;
}

#[tokio::test]
#[ignore = "needs openssl and curl"]
async fn commands_with_other_tools_do_what_the_readmes_say() {
    run_all(Need::Tools).await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_commands_do_what_the_readmes_say() {
    run_all(Need::Root).await;
}

#[tokio::test]
#[ignore = "needs docker"]
async fn commands_in_containers_do_what_the_readmes_say() {
    run_all(Need::Docker).await;
}

#[test]
fn every_crate_has_a_readme_with_valid_annotations_that_is_its_documentation() {
    let readmes = readmes();
    assert!(readmes.len() >= 12, "{readmes:?}");
    for readme in &readmes {
        // An error in it is a panic.
        _ = blocks_of(readme);
        let library = readme.with_file_name("src").join("lib.rs");
        if library.is_file() {
            let text = std::fs::read_to_string(&library).unwrap();
            assert!(text.contains("#![doc = include_str!(\"../README.md\")]"), "{}", library.display());
        }
    }
}

#[test]
fn links_lead_to_existing_files_that_contain_the_quoted_lines() {
    let mut texts = readmes();
    texts.extend(["ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    let findings: Vec<String> = texts.iter().flat_map(|text| links::check(text)).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}
