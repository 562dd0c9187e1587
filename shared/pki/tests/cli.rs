#![expect(clippy::unwrap_used, reason = "a test may panic")]
//! The `pki` command: what it writes, what it refuses, and what it says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What a run of the command said, and how it ended.
struct CommandOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

fn pki(folder: &Path, line: &str) -> CommandOutput {
    let output = Command::new(env!("CARGO_BIN_EXE_pki"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let output =
        CommandOutput { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    assert!(
        !output.out.contains("PRIVATE KEY--") && !output.err.contains("PRIVATE KEY--"),
        "a key was shown"
    );
    output
}

impl CommandOutput {
    #[track_caller]
    fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }
}

/// A folder with a chain in `certs`.
fn chain(more: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let line = format!(
        "chain --out certs --dns localhost --ip 127.0.0.1 --spiffe spiffe://mesh/ns/demo/sa/web {more}"
    );
    pki(folder.path(), &line).with(0);
    folder
}

/// What is in `certs`: names, contents and modes.
fn certs(folder: &TempDir) -> Vec<(String, String, u32)> {
    let entries = fs::read_dir(folder.path().join("certs")).unwrap().map(Result::unwrap);
    let mut all: Vec<_> = entries
        .map(|entry| {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap(), mode)
        })
        .collect();
    all.sort();
    all
}

fn files(folder: &TempDir) -> Vec<String> {
    certs(folder).into_iter().map(|(name, ..)| name).collect()
}

#[test]
fn a_chain_is_five_files_and_only_its_owner_reads_the_key() {
    let folder = chain("");
    // Nothing temporary is left either.
    assert_eq!(files(&folder), ["chain.pem", "intermediate.pem", "key.pem", "leaf.pem", "root.pem"]);
    for (name, _, mode) in certs(&folder) {
        // The umask of whoever runs this may take more away from the others.
        assert!(
            if name == "key.pem" { mode == 0o600 } else { mode & !0o044 == 0o600 },
            "{name} has mode {mode:o}"
        );
    }
}

#[test]
fn the_root_s_key_is_written_only_on_request() {
    let folder = chain("--keep-root-key");
    let keys: Vec<_> =
        certs(&folder).into_iter().filter(|(_, text, _)| text.contains("PRIVATE KEY")).collect();
    let [(key, _, 0o600), (root_key, _, 0o600)] = &keys[..] else { panic!("{:?}", files(&folder)) };
    assert_eq!((key.as_str(), root_key.as_str()), ("key.pem", "root-key.pem"));
}

#[test]
fn existing_files_are_replaced_only_with_force() {
    let folder = chain("");
    let before = certs(&folder);
    let again = "chain --out certs --dns localhost";
    let refused = pki(folder.path(), again).with(2);
    assert!(
        refused.err.contains("certs/root.pem is there already") && refused.err.contains("--force"),
        "{}",
        refused.err
    );
    assert_eq!(certs(&folder), before);
    // One file of the set is enough to refuse, and none of the others appears.
    for name in ["root.pem", "intermediate.pem", "leaf.pem", "chain.pem"] {
        fs::remove_file(folder.path().join("certs").join(name)).unwrap();
    }
    let refused = pki(folder.path(), again).with(2);
    assert!(refused.err.contains("certs/key.pem"), "{}", refused.err);
    assert_eq!(files(&folder), ["key.pem"]);

    // A file that too many may read gets the right mode with its new content.
    fs::set_permissions(folder.path().join("certs/key.pem"), fs::Permissions::from_mode(0o666)).unwrap();
    pki(folder.path(), &format!("{again} --force")).with(0);
    let key = certs(&folder).into_iter().find(|(name, ..)| name == "key.pem").unwrap();
    assert_eq!(key.2, 0o600);
    pki(folder.path(), "verify --roots certs/root.pem --host localhost certs/chain.pem").with(0);
}

#[test]
fn the_key_of_another_root_is_neither_overwritten_nor_left_next_to_the_wrong_root() {
    let folder = chain("--keep-root-key");
    let before = certs(&folder);
    let refused = pki(folder.path(), "chain --out certs --dns localhost --force").with(2);
    assert!(refused.err.contains("root-key.pem is there"), "{}", refused.err);
    assert_eq!(certs(&folder), before);
    pki(folder.path(), "chain --out certs --dns localhost --force --keep-root-key").with(0);
    assert_ne!(certs(&folder), before);
}

#[test]
fn a_link_is_replaced_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (certs, victim) = (folder.path().join("certs"), folder.path().join("victim"));
    fs::create_dir(&certs).unwrap();
    fs::write(&victim, "mine").unwrap();
    std::os::unix::fs::symlink(&victim, certs.join("key.pem")).unwrap();
    pki(folder.path(), "chain --out certs --dns localhost").with(2);
    pki(folder.path(), "chain --out certs --dns localhost --force").with(0);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert!(certs.join("key.pem").symlink_metadata().unwrap().is_file());
}

#[test]
fn show_prints_the_certificates_of_a_chain() {
    let folder = chain("--usage server");
    let shown = pki(folder.path(), "show certs/chain.pem").with(0).out;
    for part in [
        "CN=localhost",
        "CN=mesh intermediate",
        "CN=mesh root",
        "localhost, 127.0.0.1, spiffe://mesh/ns/demo/sa/web",
        "digital signature",
        "key cert sign, crl sign",
        "issues leaves only (path length 0)",
        "ECDSA P-256",
        " UTC to 20",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let root = pki(folder.path(), "show certs/root.pem").with(0).out;
    assert!(root.contains("at most 1 below it (path length 1)"), "{root}");
    let key = pki(folder.path(), "show certs/key.pem").with(2);
    assert!(key.err.contains("line 1 begins a PRIVATE KEY, where a CERTIFICATE is needed"), "{}", key.err);
    let missing = pki(folder.path(), "show nowhere.pem").with(2);
    assert!(missing.err.contains("cannot use nowhere.pem"), "{}", missing.err);
}

#[test]
fn verify_exits_with_0_1_or_2() {
    let folder = chain("");
    let verify = |line: &str| pki(folder.path(), &format!("verify {line}"));
    let trusted = verify("--roots certs/root.pem --host localhost certs/chain.pem").with(0).out;
    assert!(
        trusted.starts_with("trusted: localhost, 127.0.0.1, spiffe://mesh/ns/demo/sa/web\n"),
        "{trusted}"
    );
    verify("--roots certs/root.pem --host 127.0.0.1 certs/chain.pem").with(0);
    verify("--roots certs/root.pem --client certs/chain.pem").with(0);

    let other = chain("--usage server");
    let foreign = other.path().join("certs");
    for (line, why) in [
        (
            "--roots certs/root.pem --host api.example certs/chain.pem",
            "it has these names: localhost, 127.0.0.1",
        ),
        ("--roots certs/root.pem --host localhost --in-days 2 certs/chain.pem", "expired at 20"),
        ("--roots certs/root.pem --host localhost certs/leaf.pem", "the chain lacks an intermediate"),
        ("--roots certs/root.pem --host localhost certs/root.pem", "is an authority's"),
        ("--roots certs/root.pem --host localhost certs/key.pem", "line 1 begins a PRIVATE KEY"),
        (
            &format!("--roots certs/root.pem --host localhost {}/chain.pem", foreign.display()),
            "not by the key of the issuer",
        ),
        (
            &format!("--roots {0}/root.pem --client {0}/chain.pem", foreign.display()),
            "not for use as \"client\", but for: server",
        ),
    ] {
        let output = verify(line).with(1);
        assert!(output.err.contains(why) && output.out.is_empty(), "{line}: {}", output.err);
    }
    for (line, why) in [
        ("--roots certs/leaf.pem --host localhost certs/chain.pem", "take root.pem"),
        ("--roots certs/key.pem --host localhost certs/chain.pem", "is it the right file?"),
        ("--roots nowhere.pem --host localhost certs/chain.pem", "cannot use nowhere.pem"),
        ("--roots certs/root.pem --host localhost nowhere.pem", "cannot use nowhere.pem"),
        ("--roots certs/root.pem certs/chain.pem", "--host"),
        ("--roots certs/root.pem --client --host localhost certs/chain.pem", "cannot be used with"),
        ("--roots certs/root.pem --host a..b certs/chain.pem", "give the host name or the IP address"),
    ] {
        let output = verify(line).with(2);
        assert!(output.err.contains(why), "{line}: {}", output.err);
    }
}

#[test]
fn invalid_arguments_are_rejected_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for (line, why) in [
        ("chain --out certs", "a leaf needs a name"),
        ("chain --out certs --dns a..b", "is no DNS name"),
        ("chain --out certs --dns 127.0.0.1", "--ip"),
        ("chain --out certs --ip localhost", "--ip"),
        ("chain --out certs --spiffe mesh/web", "is no SPIFFE ID"),
        ("chain --out certs --dns localhost --days 31", "choose a shorter life"),
        ("chain --out certs --dns localhost --intermediate-days 4000", "choose a shorter life"),
        ("chain --out certs --dns localhost --days 0", "0 is not in 1..="),
        ("chain --dns localhost", "--out"),
    ] {
        let output = pki(folder.path(), line).with(2);
        assert!(output.err.contains(why), "{line}: {}", output.err);
    }
    assert!(!folder.path().join("certs").exists());
}

#[test]
fn the_examples_in_the_help_work() {
    let folder = tempfile::tempdir().unwrap();
    let examples = |help: &str| {
        let lines = help.lines().filter_map(|line| line.strip_prefix("  pki "));
        lines.filter(|line| line.contains("certs")).map(str::to_owned).collect::<Vec<_>>()
    };
    let all = examples(&pki(folder.path(), "--help").with(0).out);
    assert_eq!(all.len(), 4);
    for line in all {
        pki(folder.path(), &line).with(0);
    }
    let chain = examples(&pki(folder.path(), "chain --help").with(0).out);
    let [line] = &chain[..] else { panic!("{chain:?}") };
    pki(folder.path(), &format!("{line} --force")).with(0);
    // The last one asks about a time when the leaf has expired.
    let verify = examples(&pki(folder.path(), "verify --help").with(0).out);
    for (line, code) in verify.iter().zip([0, 0, 1]) {
        pki(folder.path(), line).with(code);
    }
    assert_eq!(verify.len(), 3);
}

/// The commands of the README's section, in order, and in one folder.
fn readme() -> Vec<String> {
    let readme = include_str!("../README.md");
    // What follows the language on the first line says how a block is run.
    let blocks = readme.split("```sh").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.flat_map(|block| block.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn the_readme_commands_work_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = "cargo run -p mesh-pki -- ";
    let lines: Vec<_> =
        readme().iter().filter_map(|line| line.strip_prefix(prefix).map(str::to_owned)).collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    for line in lines {
        let (line, comment) = line.split_once('#').unwrap_or((&line, ""));
        let code = if comment.contains("exit code 1") { 1 } else { 0 };
        pki(folder.path(), line).with(code);
    }
}

#[test]
#[ignore = "needs openssl and curl"]
fn openssl_accepts_what_the_command_wrote() {
    for folder in [chain("")] {
        let lines: Vec<_> = readme().into_iter().filter(|line| line.starts_with("openssl ")).collect();
        assert_eq!(lines.len(), 2);
        for line in lines {
            let mut words = line.split_whitespace();
            let output = Command::new(words.next().unwrap()).args(words).current_dir(folder.path()).output();
            let output = output.expect("openssl is needed: apt-get install openssl");
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            let output = String::from_utf8(output.stdout).unwrap();
            let expected = ["leaf.pem: OK", "URI:spiffe://mesh/ns/demo/sa/web"];
            assert!(expected.iter().any(|expected| output.contains(expected)), "{output}");
        }
    }
}

#[test]
fn a_write_error_on_stdout_is_a_failure_and_a_closed_pipe_is_not() {
    let folder = chain("");
    let show = |stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pki"));
        command.args(["show", "certs/chain.pem"]).current_dir(folder.path()).stdout(stdout);
        let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let (code, peer_error) = show(full.into());
    assert_eq!(code, Some(1), "{peer_error}");
    assert!(peer_error.contains("did not reach stdout: No space left"), "{peer_error}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(show(writer.into()), (Some(0), String::new()));
}
