//! One port for several processes, and what comes of it; see the crate's README.

#![forbid(unsafe_code)]

mod instance;
mod kernel;
mod queue;
mod serve;
mod story;
mod tasks;

use std::process::ExitCode;

use clap::Parser;
use shared::cli::{self, CommonArgs};
use shared::report;

/// One port for several server processes: who gets the connections?
#[derive(Parser)]
#[command(
    name = "reuseport",
    version,
    after_help = "Examples:
  cargo run -p shared --bin reuseport                                           the whole experiment
  cargo run -p shared --bin reuseport -- serve --instance foo --port 10000      one server of it; and another
  cargo run -p shared --bin reuseport -- serve --instance bar --port 10000      in a second terminal
  sudo target/debug/reuseport                                                   with what takes root

Exit code: 0 every claim held, 1 one did not, 2 wrong usage, or no such port for a server."
)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Print the report as JSON, and nothing else, on stdout
    #[arg(long)]
    json: bool,
    /// Keep two servers up on port 10000 after the story, until Ctrl-C
    #[arg(long)]
    stay: bool,
    /// Show logs on stderr (-v: what happens, -vv: every detail)
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(clap::Subcommand)]
enum Role {
    /// Answer "Hello from INSTANCE" on HOST:PORT, with others who do the same
    Serve(serve::Args),
    /// Exit with 0 if INSTANCE answers on HOST:PORT
    Healthcheck(serve::Place),
    /// Kill a server that has connections in its queue, and print as JSON what became of them
    #[command(hide = true)]
    Queue,
}

fn main() -> ExitCode {
    let Args { role, json, stay, verbose } = Args::parse();
    // Before there is a second thread: a user belongs to a thread, and is inherited by later ones.
    if let Some(Role::Serve(args)) = &role
        && let Err(error) = args.become_user()
    {
        report::line_err(&format!("error: {error}"));
        return ExitCode::from(2);
    }
    let mut runtime = match role {
        // One process is one thread here. Who has more cores starts more processes: that is what it is about.
        Some(_) => tokio::runtime::Builder::new_current_thread(),
        None => tokio::runtime::Builder::new_multi_thread(),
    };
    let running = async {
        match role {
            Some(Role::Serve(args)) => {
                cli::run_role(verbose, async |life| serve::run(&args, life).await).await
            }
            Some(Role::Healthcheck(place)) => {
                cli::run_role(verbose, async |_| serve::healthcheck(&place).await).await
            }
            Some(Role::Queue) => cli::run_role(verbose, async |life| queue::print(life).await).await,
            None => {
                let common = CommonArgs { json, stay, verbose, ..CommonArgs::default() };
                let idea = "one port for several processes: who gets the connections?";
                cli::run(&common, "reuseport", idea, async |story, life| story::tell(stay, story, life).await)
                    .await
            }
        }
    };
    match runtime.enable_all().build() {
        Ok(runtime) => runtime.block_on(running),
        Err(error) => {
            report::line_err(&format!("error: no runtime: {error}"));
            ExitCode::FAILURE
        }
    }
}
