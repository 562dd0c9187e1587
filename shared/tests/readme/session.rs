//! A session: one README's blocks of one kind, run in order by one shell in a folder of its own.
//!
//! The folder looks like the workspace, by links into it, and takes what commands write. Three words are
//! the session's own: `cargo run -p CRATE …` runs what was compiled together with this test, since another
//! selection of crates would compile half of the workspace anew; `docker compose` is `$COMPOSE`, as in all
//! tests; and `sudo` is nothing for who is root already.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mesh_testkit::compose;
use shared::child;
use tempfile::TempDir;
use tokio::process::Command;

use crate::blocks::{Block, Need};
use crate::compare::compare;

/// How long one README's session may take: an image may have to be built in it.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What the words mean, and what happens when a command has ended.
const SHELL_FUNCTIONS: &str = r#"
set -P
exec </dev/null
desk=$PWD

folder_of() { [[ $1 == mesh-* ]] && echo "$desk/shared/${1#mesh-}" || echo "$desk/$1"; }

cargo() {
  local folder
  { [[ $1 =~ ^(run|build)$ && $2 == -p ]] && folder=$(folder_of "$3") && [[ -f $folder/Cargo.toml ]]; } || { echo "cargo run or build, -p, and a crate" >&2; return 90; }
  [[ $1 == run ]] || return 0
  # The programs of mesh-pki and its like have the short name.
  local program=${3#mesh-}
  shift 3
  if [[ ${1-} == --bin ]]; then
    program=$2
    shift 2
    [[ -f $folder/src/bin/$program.rs || -f $folder/src/bin/$program/main.rs ]] || { echo "$folder has no $program" >&2; return 91; }
  fi
  if [[ $# -gt 0 ]]; then
    [[ $1 == -- ]] || { echo "a -- stands before the program's arguments" >&2; return 92; }
    shift
  fi
  # A program beside others takes the place of its shell, so that it gets the signal.
  ${beside:+exec} "$PROGRAMS/$program" "$@"
}

docker() {
  [[ ${1-} == compose && -n ${COMPOSE-} && $COMPOSE != "docker compose" ]] || { command docker "$@"; return; }
  shift
  if [[ ${CI-} == true && $1 == up ]]; then set -- "$@" --pull never; fi
  "$COMPOSE" "$@"
}

sudo() { if ((EUID == 0)); then "$@"; else command sudo -n "$@"; fi; }

running=()

stop_running() {
  local pid
  for pid in "${running[@]}"; do kill -TERM "$pid" 2>/dev/null; done
  wait
  running=()
}

leave() {
  stop_running
  [[ -z ${COMPOSE_PROJECT_NAME-} ]] || docker compose --project-name "$COMPOSE_PROJECT_NAME" down --volumes --timeout 5 >/dev/null 2>&1
}
trap leave EXIT

# ended NAME CODE EXPECTED
ended() {
  (($2 == $3)) && return
  printf '%s %s' "$1" "$2" >"$NOTES/finding"
  exit 1
}

# until_it_speaks NAME PID
until_it_speaks() {
  until [[ -s $NOTES/$1.out ]]; do
    kill -0 "$2" 2>/dev/null || ended "$1" 255 0
    sleep 0.02
  done
}
"#;

/// Where the compiled programs are: beside the folder of this test's own program.
fn programs() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// Compiles every program, as `cargo test --workspace` has done already.
///
/// Tests are selected too, because what they depend on decides with which features dependencies are
/// compiled: without them it would be another compilation.
pub(crate) async fn compile(root: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["build", "--locked", "--workspace", "--bins", "--tests", "--quiet"]);
    cargo.arg("--target-dir").arg(programs().parent().unwrap());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // What cargo told this test about its own crate would make build scripts run again.
    let addresses = |name: &str| {
        name == "OUT_DIR"
            || ["PKG_", "MANIFEST_", "BIN_", "CRATE_"]
                .iter()
                .any(|of| name.starts_with(&format!("CARGO_{of}")))
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(addresses) {
            cargo.env_remove(name);
        }
    }
    let compiled = child::output(cargo, LIMIT).await.unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}

/// Runs the blocks.
///
/// # Errors
/// What was not as the README says, headed by the line.
pub(crate) async fn run(root: &Path, blocks: &[Block], need: Need) -> Result<(), String> {
    let (workdir, notes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    link(root, &workdir);
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script(blocks)])
        .current_dir(workdir.path())
        .env("NOTES", notes.path())
        .env("PROGRAMS", programs())
        .env("MESH_TOOLS", root.join(".tools"))
        .stdin(Stdio::null());
    if need == Need::Docker {
        let all = fs::read_dir(programs()).unwrap().map(|entry| entry.unwrap().path());
        let ours = all.filter(|path| path.is_file() && path.extension().is_none()).collect::<Vec<_>>();
        compose::install_programs(root, &ours).await.unwrap();
        shell.envs(compose::variables());
        // As the stacks of other tests: the process in the name tells whether anybody still needs it.
        shell.env("COMPOSE_PROJECT_NAME", format!("mesh-test-{}-readme", std::process::id()));
    }
    let ended = child::output(shell, LIMIT).await.map_err(|error| format!("{}: {error}", blocks[0].line))?;
    let note = |name: String| fs::read_to_string(notes.path().join(name)).unwrap_or_default();
    let finding = note("finding".to_owned());
    if let Some((name, code)) = finding.split_once(' ') {
        let (block, command) = name.split_once('-').unwrap();
        let block = &blocks[block.parse::<usize>().unwrap()];
        let command = &block.commands[command.parse::<usize>().unwrap()];
        return Err(format!(
            "{}: `{}` ended with {code}, not {}\n{}{}",
            block.line,
            command.text,
            command.code,
            note(format!("{name}.out")),
            note(format!("{name}.err")),
        ));
    }
    if !ended.status.success() {
        return Err(format!("{}: the shell: {}", blocks[0].line, String::from_utf8_lossy(&ended.stderr)));
    }
    for (at, block) in blocks.iter().enumerate() {
        let Some(shown) = &block.shown else { continue };
        let printed: String = (0..block.commands.len())
            .filter(|command| !block.commands[*command].beside)
            .map(|command| note(format!("{at}-{command}.out")))
            .collect();
        compare(shown, &printed)
            .map_err(|finding| format!("{}: {finding}\nall that was printed:\n{printed}", block.line))?;
    }
    Ok(())
}

/// Makes the desk look like the workspace.
fn link(root: &Path, workdir: &TempDir) {
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if !["target", "certs", "keys"].map(Into::into).contains(&entry.file_name()) {
            symlink(entry.path(), workdir.path().join(entry.file_name())).unwrap();
        }
    }
    // READMEs say target/debug.
    fs::create_dir(workdir.path().join("target")).unwrap();
    symlink(programs(), workdir.path().join("target/debug")).unwrap();
}

/// The blocks as a script that notes down what each command prints.
fn script(blocks: &[Block]) -> String {
    let mut script = SHELL_FUNCTIONS.to_owned();
    for (at, block) in blocks.iter().enumerate() {
        for (number, command) in block.commands.iter().enumerate() {
            let (name, text) = (format!("{at}-{number}"), &command.text);
            let into = format!(">\"$NOTES/{name}.out\" 2>\"$NOTES/{name}.err\"");
            // The text has a line of its own, since it may end in a comment.
            _ = if command.beside {
                writeln!(
                    script,
                    "(beside=yes\ntrap - EXIT\n{text}\n) {into} & running+=($!)\nuntil_it_speaks {name} $!"
                )
            } else {
                writeln!(script, "{{\n{text}\n}} {into}\nended {name} $? {}", command.code)
            };
        }
        script.push_str("stop_running\n");
    }
    script
}
