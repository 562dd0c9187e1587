//! What the builder of the image for all roles is given: every file that compiling takes, and no key.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn docker(at: &Path, args: &[&str], input: &str) -> Vec<u8> {
    let mut command = Command::new("docker");
    command.args(args).current_dir(at).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut docker = command.spawn().unwrap();
    docker.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = docker.wait_with_output().unwrap();
    assert!(output.status.success(), "docker {args:?}");
    output.stdout
}

/// Something of Docker's, which goes with this value.
struct DockerResource {
    id: String,
    remove: &'static str,
}

impl DockerResource {
    fn by(at: &Path, args: &[&str], input: &str, remove: &'static str) -> Self {
        Self { id: String::from_utf8(docker(at, args, input)).unwrap().trim().to_owned(), remove }
    }
}

impl Drop for DockerResource {
    fn drop(&mut self) {
        _ = Command::new("docker").args([self.remove, "--force", &self.id]).stdout(Stdio::null()).status();
    }
}

/// All files below a folder, by their paths from `root` on.
fn files(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            files(root, &path, found);
        } else {
            found.insert(path.to_str().unwrap().to_owned());
        }
    }
}

/// What the image is compiled of: the workspace's own files, and its crates' apart from exercises, keys and compose files.
fn sources(root: &Path) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = ["Cargo.toml", "Cargo.lock"].map(str::to_owned).into();
    for entry in fs::read_dir(root).unwrap() {
        let member = PathBuf::from(entry.unwrap().file_name());
        if !root.join(&member).join("Cargo.toml").is_file() {
            continue;
        }
        let mut all = BTreeSet::new();
        files(root, &member, &mut all);
        let apart = ["lab/", "keys/", "compose.yaml"].map(|name| member.join(name));
        let is_apart = |file: &String| apart.iter().any(|one| Path::new(file).starts_with(one));
        found.extend(all.into_iter().filter(|file| !is_apart(file)));
    }
    found
}

#[test]
#[ignore = "needs docker"]
fn the_build_context_contains_every_source_file_and_no_key() {
    let (root, context) = (root(), tempfile::tempdir().unwrap());
    let sources = sources(&root);
    assert!(sources.len() > 300, "{}", sources.len());
    let kept_away = ["keys/signing-key.pem", "certs/key.pem", "demo5-authz/keys/signing-key.pem"];
    let students =
        [("demo4-lb/lab/01-localities/work", "envoy.yaml"), ("shared/lab/01-port/work", "listen.rs")]
            .map(|(folder, file)| format!("{folder}/{file}"));
    let others = kept_away.into_iter().chain(students.iter().map(String::as_str));
    for file in sources.iter().map(String::as_str).chain(others) {
        let place = context.path().join(file);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, file).unwrap();
    }
    fs::copy(root.join(".dockerignore"), context.path().join(".dockerignore")).unwrap();

    let build = ["build", "--quiet", "--file", "-", "."];
    let image = DockerResource::by(context.path(), &build, "FROM scratch\nCOPY . /src/\n", "rmi");
    // By this name CI's clean-up finds what a killed run left.
    let label = format!("com.docker.compose.project=mesh-test-{}-image", std::process::id());
    let container =
        DockerResource::by(context.path(), &["create", "--label", &label, &image.id, "nothing"], "", "rm");
    let archive = context.path().join("all.tar");
    docker(context.path(), &["export", "--output", archive.to_str().unwrap(), &container.id], "");
    let listed = Command::new("tar").arg("--list").arg("--file").arg(&archive).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let given: BTreeSet<String> = listed
        .lines()
        .filter_map(|path| path.strip_prefix("src/"))
        .filter(|path| !path.is_empty() && !path.ends_with('/'))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = sources.difference(&given).collect();
    let too_much: Vec<_> = given.difference(&sources).collect();
    assert!(missing.is_empty() && too_much.is_empty(), "missing: {missing:?}, too much: {too_much:?}");
}
