//! What one run of this demo does, as plain data.
//!
//! The command line fills a [`Plan`]; the scenario reads it.

use std::path::PathBuf;

use clap::ValueEnum;

/// The settings of one run.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The Envoy to use; found or installed if `None`.
    pub envoy: Option<PathBuf>,
    /// Whether to use the lab ports, because everything stays up after the run.
    pub stay: bool,
    /// The only step to run; all of them if `None`.
    pub step: Option<Step>,
}

/// A step of the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Step {
    /// No token, and invalid tokens
    Tokens,
    /// What a reader and an admin may do
    Rights,
    /// What the backend sees
    Headers,
    /// Client certificates in place of tokens
    Certificates,
    /// Policies and keys that change
    Reloading,
    /// Request bodies for the authorizer
    Bodies,
    /// Authorizers that are down, slow or mad
    Failures,
    /// An authorizer that leaves while calls run
    Draining,
    /// What asking costs
    Cost,
}

impl Step {
    /// Returns its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tokens => "Nine callers who do not prove who they are, and one who does",
            Self::Rights => "A reader and an admin ask for the same things",
            Self::Headers => "What the backend sees of a call",
            Self::Certificates => "A client certificate in place of a token",
            Self::Reloading => "Policies and keys change while everything runs",
            Self::Bodies => "The authorizer looks at request bodies",
            Self::Failures => {
                "The authorizer fails in six ways, at doors that fail closed and doors that fail open"
            }
            Self::Draining => "One of two authorizers leaves while calls run",
            Self::Cost => "What asking costs",
        }
    }
}
