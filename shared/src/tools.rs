//! The programs that a demo needs: which one is used, and how a missing one gets here.
//!
//! ```text
//! --envoy / $ENVOY ──given?──> that one, or an error: a choice is never overruled
//!        │ no
//! PATH ──an Envoy?──> that one, whatever its version
//!        │ no
//! cache .tools/ ──the pinned version?──> that one
//!        │ no
//! install the pinned wheel with pip (or uv) into the cache
//! ```
//!
//! Knows where programs are and proves that they are what they seem. Does not know how they are
//! configured or run: [`child`](crate::child) and [`envoy`](crate::envoy) do.

mod error;

mod program;

mod verify;

mod wheel;

mod install;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::ToolError;
pub use program::{Program, Source};
pub use wheel::Wheel;

/// Finds Envoy, or installs it: `choice` if there is one, else `PATH`, the tool cache, the pinned wheel.
///
/// An installation shows itself on stderr. An empty `choice` (`ENVOY= cargo run …`) is none.
///
/// # Errors
/// [`ToolError`]; each says what to do next.
pub async fn envoy(choice: Option<&Path>) -> Result<Program, ToolError> {
    ToolFinder::from_env()?.envoy(choice).await
}

/// Where programs are looked for and kept: [`envoy`] with its environment spelled out.
#[derive(Clone, Debug)]
pub struct ToolFinder {
    /// The folder for what is installed; made when first needed.
    pub cache: PathBuf,
    /// The value of `PATH`, for Envoy and for what installs it.
    pub path: Option<OsString>,
    /// What to install; `None` on a machine for which there is no wheel.
    pub wheel: Option<Wheel>,
    /// How long a program may take to tell its version.
    pub limit: Duration,
}

impl ToolFinder {
    /// The machine as it is: `$PATH`, and `$MESH_TOOLS`, the workspace's `.tools` or a folder of the user's.
    ///
    /// # Errors
    /// [`ToolError::NoCache`] if none of the three is there.
    pub fn from_env() -> Result<Self, ToolError> {
        Ok(Self {
            cache: cache_folder().ok_or(ToolError::NoCache)?,
            path: std::env::var_os("PATH"),
            wheel: Wheel::for_this_machine(),
            limit: Duration::from_secs(20),
        })
    }

    /// See [`envoy`].
    ///
    /// # Errors
    /// [`ToolError`]; each says what to do next.
    pub async fn envoy(&self, choice: Option<&Path>) -> Result<Program, ToolError> {
        if let Some(choice) = choice.filter(|path| !path.as_os_str().is_empty()) {
            return self.chosen(choice).await;
        }
        if let Some(path) = self.find("envoy") {
            match verify::envoy(&path, Source::Path, self.limit).await {
                Ok(program) => return Ok(program),
                // Nobody chose it, and other tools are called envoy too: look on.
                Err(error) => tracing::warn!("passing over an envoy on PATH: {error}"),
            }
        }
        let wheel = self.wheel.as_ref().ok_or_else(|| ToolError::NoWheel { platform: wheel::platform() })?;
        match self.cached(wheel).await {
            Some(program) => Ok(program),
            None => self.install(wheel).await,
        }
    }

    async fn chosen(&self, choice: &Path) -> Result<Program, ToolError> {
        // A bare name would be looked up on PATH by exec.
        let path = std::path::absolute(choice).map_err(ToolError::io("find", choice))?;
        if !path.exists() {
            return Err(ToolError::Missing { path });
        }
        if !is_executable(&path) {
            return Err(ToolError::NotExecutable { path });
        }
        verify::envoy(&path, Source::Chosen, self.limit).await
    }

    /// The pinned version from the cache, if it is there and sound.
    async fn cached(&self, wheel: &Wheel) -> Option<Program> {
        let path = self.place(wheel);
        if !is_executable(&path) {
            return None;
        }
        let program = verify::envoy(&path, Source::Cache, self.limit).await.ok()?;
        (program.version == wheel.version).then_some(program)
    }

    /// Where an installed wheel's program belongs.
    fn place(&self, wheel: &Wheel) -> PathBuf {
        let folder = format!("envoy-{}-{}", wheel.version, wheel.arch);
        self.cache.join(folder).join("envoy")
    }

    /// The first executable `name` on `PATH`. An empty entry would mean the current folder: passed over.
    fn find(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(self.path.as_deref()?)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|path| is_executable(path))
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// `$MESH_TOOLS`, else `.tools` in the workspace, else a folder of this user's own. Never one under /tmp,
/// where somebody else could have put a program first.
fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let user = || {
        let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
        cache.or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")))
    };
    set("MESH_TOOLS")
        .and_then(|folder| std::path::absolute(folder).ok())
        .or_else(|| workspace().map(|root| root.join(".tools")))
        .or_else(|| user().map(|cache| cache.join("mesh-demos")))
}

/// The workspace that we stand in, else the one that this program was built from, if it is still there.
fn workspace() -> Option<PathBuf> {
    let is_root = |folder: &&Path| {
        folder.join("Cargo.toml").is_file() && folder.join("shared/proto/echo.proto").is_file()
    };
    let here = std::env::current_dir().ok();
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let above = here.iter().flat_map(|folder| folder.ancestors());
    above.chain(built.ancestors()).find(is_root).map(Path::to_owned)
}
