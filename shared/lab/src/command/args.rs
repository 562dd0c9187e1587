//! The flags of the `lab` subcommand. Does not know what follows from them.

use std::path::PathBuf;

use shared::cli;

/// What a demo's command can do beside telling its story.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Exercises that check themselves: list them, do one, get a hint
    Lab(Args),
}

/// The flags of `lab`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  … lab              the exercises, and how far you are
  … lab 2            the task, and how your files do; the first time it lays them out for you
  … lab 2 --hint     the next hint
  … lab 2 --watch    check again on every save
  … lab --json       check all that were begun, for a grader
  … lab verify       prove the exercises: solutions pass, the rest fails for its own reason

Exit code: 0 it is solved, 1 it is not, 2 wrong usage or a missing program."
)]
pub struct Args {
    /// The exercise to do; without it all are listed
    #[arg(value_name = "N")]
    pub(super) number: Option<usize>,
    /// Give the next hint, and check nothing
    #[arg(long, requires = "number", conflicts_with_all = ["watch", "json"])]
    pub(super) hint: bool,
    /// Check again on every save, until it is solved
    #[arg(long, requires = "number", conflicts_with = "json")]
    pub(super) watch: bool,
    /// Print what was found as JSON; without N every exercise that was begun is checked
    #[arg(long)]
    pub(super) json: bool,
    /// Where the work is, a folder for each exercise; unless said, in the exercises' own folders
    #[arg(long, env = "LAB_WORK", value_name = "DIR")]
    pub(super) work: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: SharedArgs,
    #[command(subcommand)]
    pub(super) instructor: Option<Instructor>,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct SharedArgs {
    /// Use the values of an earlier check again
    #[arg(long, value_name = "NUMBER")]
    pub(super) seed: Option<u32>,
    /// The Envoy to run; without it PATH, the tool cache, then pip are tried
    #[arg(long, env = "ENVOY", value_name = "PATH", value_parser = cli::optional_path())]
    pub(super) envoy: Option<PathBuf>,
    /// Show logs on stderr (-v: what happens, -vv: every detail)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Instructor {
    /// Prove the exercises: each solution passes; each start and each wrong solution fails with its own sentence
    Verify {
        /// This exercise only
        #[arg(value_name = "N")]
        number: Option<usize>,
        #[command(flatten)]
        common: SharedArgs,
    },
}
