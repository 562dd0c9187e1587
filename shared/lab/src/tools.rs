//! The programs that checkers run.

use std::path::PathBuf;
use std::sync::Arc;

use shared::cli::SetupError;
use shared::tools::{self, Program};
use tokio::sync::OnceCell;

/// Finds each program once. Clones share the result.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    choice: Option<PathBuf>,
    envoy: Arc<OnceCell<Program>>,
}

impl Tools {
    /// Uses this Envoy, or finds or installs one if `None`.
    pub fn new(envoy: Option<PathBuf>) -> Self {
        Self { choice: envoy, envoy: Arc::default() }
    }

    pub(super) async fn envoy(&self) -> anyhow::Result<Program> {
        let find = async || tools::envoy(self.choice.as_deref()).await.map_err(SetupError::new);
        Ok(self.envoy.get_or_try_init(find).await?.clone())
    }
}
