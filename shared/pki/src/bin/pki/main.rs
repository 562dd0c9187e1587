//! Makes, shows and checks certificates: the chain of trust on the command line.

#![forbid(unsafe_code)]

mod failure;

mod chain;
mod show;
mod trust;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;

use failure::Failure;

const EXAMPLES: &str = "\
Examples:
  pki chain --out certs --dns localhost --ip 127.0.0.1 --spiffe spiffe://mesh/ns/demo/sa/web
  pki show certs/chain.pem
  pki verify --roots certs/root.pem --host localhost certs/chain.pem
  pki verify --roots certs/root.pem --client certs/chain.pem

From the workspace: cargo run -p mesh-pki -- chain --out certs --dns localhost

Exit codes: 0 done, or trusted; 1 not trusted; 2 wrong usage, or a file that cannot be read or written";

/// Makes, shows and checks certificates: root, intermediate, leaf.
#[derive(Parser)]
#[command(name = "pki", version, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a root, an intermediate and a leaf: root.pem, intermediate.pem, leaf.pem, chain.pem, key.pem
    Chain(chain::Args),
    /// Show what is in the certificates of a file
    Show(show::Args),
    /// Decide whether a chain proves what it has to
    Verify(trust::Args),
}

fn main() -> ExitCode {
    let Args { command } = Args::parse();
    let done = match command {
        Command::Chain(args) => chain::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Verify(args) => trust::run(&args),
    };
    match done {
        Ok(text) => print(&text),
        Err(failure) => {
            _ = writeln!(std::io::stderr(), "error: {failure}");
            match failure {
                Failure::NotTrusted(_) => ExitCode::from(1),
                Failure::Unusable(_) => ExitCode::from(2),
            }
        }
    }
}

/// Writes `text` to stdout. A reader that left (`| head`) is not a failure; a full disk is.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            _ = writeln!(std::io::stderr(), "error: what was printed did not reach stdout: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
