//! Why a subcommand fails, and with which exit code.

use std::error::Error;

use mesh_pki::Untrusted;

/// A subcommand has no result to print.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The chain does not prove what it has to: exit code 1.
    #[error(transparent)]
    NotTrusted(Untrusted),
    /// A file or an argument cannot be used: exit code 2.
    #[error("{0}")]
    Unusable(Box<dyn Error>),
}

impl Failure {
    /// Wraps an error about a file or an argument.
    pub(crate) fn unusable(error: impl Error + 'static) -> Self {
        Self::Unusable(Box::new(error))
    }
}
