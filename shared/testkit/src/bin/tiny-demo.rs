//! A command as small as possible, for the tests of `shared::report` and `shared::cli`: its argument chooses how it ends.

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use shared::cli::{self, CommonArgs, LiveEnvironment, SetupError};
use shared::lifecycle::Lifecycle;
use shared::report::{Recorder, line_out};

/// A story of one step, or a role, whose argument chooses how it ends
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Run as a role (a server) instead of a story
    #[arg(long)]
    role: bool,
    /// How it ends
    #[arg(value_enum)]
    ending: Ending,
    /// For `listen`: the address
    #[arg(long, default_value_t = (Ipv4Addr::LOCALHOST, 0).into())]
    listen: SocketAddr,
}

#[derive(Clone, Copy, ValueEnum)]
enum Ending {
    /// One claim, which holds
    Holds,
    /// One claim of each verdict
    Mixed,
    /// One claim, which is not checked
    NotChecked,
    /// No claim at all
    Empty,
    /// An error with a cause
    Fails,
    /// An error that the user has to fix
    SetupError,
    /// Never: only a signal ends it
    Waits,
    /// A task that does not stop when it should
    Overdue,
    /// A port in use, if the address of `--listen` is
    Listen,
}

struct Up;

impl LiveEnvironment for Up {
    fn instructions(&self) -> String {
        "It stays up.".to_owned()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { common, role, ending, listen } = Args::parse();
    if role {
        cli::run_role(common.verbose, async |life| end(ending, listen, life).await).await
    } else {
        cli::run(&common, "tiny-demo", "a run for tests", async |recorder, life| {
            run_to(ending, recorder);
            end(ending, listen, life).await.map(|()| Up)
        })
        .await
    }
}

fn run_to(ending: Ending, recorder: &mut Recorder) {
    recorder.version("tiny", "1.0");
    recorder.step("The only step");
    match ending {
        Ending::Holds => recorder.claim("it-holds", "Two is two", "2", "2", true),
        Ending::Mixed => {
            recorder.claim("it-holds", "Two is two", "2", "2", true);
            recorder.claim("it-breaks", "Two is three", "3", "2", false);
            recorder.claim("it-breaks-too", "Two is four", "4", "2", false);
            recorder.not_checked("not-here", "Two is one of many", "1 of many", "there are not many");
        }
        Ending::NotChecked => recorder.not_checked("not-here", "Two is one of many", "1 of many", "not many"),
        _ => {}
    }
}

async fn end(ending: Ending, listen: SocketAddr, life: &Lifecycle) -> anyhow::Result<()> {
    match ending {
        Ending::Holds | Ending::Mixed | Ending::NotChecked | Ending::Empty => {}
        Ending::Fails => return Err(anyhow::anyhow!("the disk is read-only").context("cannot save")),
        Ending::SetupError => {
            let cause = std::io::Error::other("no tiny program: install it");
            return Err(anyhow::Error::new(SetupError::new(cause)).context("cannot start"));
        }
        Ending::Waits => {
            line_out("waiting");
            std::future::pending::<()>().await;
        }
        // It ignores the token of its lifecycle.
        Ending::Overdue => drop(life.spawn(std::future::pending::<()>())),
        Ending::Listen => drop(cli::listen(listen).await?),
    }
    Ok(())
}
