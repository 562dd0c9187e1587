//! What every server role knows on its command line, beside what it serves.

/// Flags to flatten into a role's own; `--listen` is the role's, and has to be global.
#[derive(Clone, Debug, clap::Args)]
pub struct RoleArgs {
    /// Show more logs on stderr
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do in place of serving.
    #[command(subcommand)]
    pub command: Option<RoleCommand>,
}

/// What a role can do beside serving: what a container's health check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum RoleCommand {
    /// Ask the server at --listen whether it serves: exit code 0 if it does, else 1
    Healthcheck,
}
