//! The exercises, proven: as root, with bpftrace. Without these there is no verdict.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use demo2_bpf::lab::lab;
use mesh_lab::{SeededRng, Tools};
use shared::lifecycle::Lifecycle;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and bpftrace"]
async fn every_solution_passes_and_every_start_and_wrong_solution_fails_for_its_own_reason() {
    let (seed, life) = (SeededRng::seed(), Lifecycle::default());
    let lab = lab(Path::new("bpftrace"));
    let proofs = lab.verify(None, seed, &Tools::default(), &life, |_| ()).await.unwrap();
    let unheld: Vec<_> = proofs.iter().filter(|proof| !proof.held).collect();
    assert!(unheld.is_empty(), "with seed {seed}: {unheld:#?}");
}

#[test]
fn without_bpftrace_there_is_no_verdict_but_the_word_what_is_missing() {
    let work = tempfile::tempdir().unwrap();
    for number in ["1", "2", "3"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_demo2-bpf"));
        command.args(["lab", number, "--bpftrace", "/nowhere/bpftrace"]).env("LAB_WORK", work.path());
        let output = command.output().unwrap();
        let (told, missing) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{told}{missing}");
        assert!(missing.contains("this machine cannot"), "{missing}");
        assert!(!told.contains("is solved"), "{told}");
    }
}

#[test]
#[ignore = "needs root and bpftrace"]
fn whoever_uses_sudo_can_edit_the_files_that_were_laid_out() {
    let work = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo2-bpf"));
    command.args(["lab", "1"]).env("LAB_WORK", work.path()).env("SUDO_UID", "1234").env("SUDO_GID", "1235");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    for made in ["01-accept", "01-accept/accept.bt", ".remembered.json"] {
        let owner = work.path().join(made).metadata().unwrap();
        assert_eq!((owner.uid(), owner.gid()), (1234, 1235), "{made}");
    }
}
