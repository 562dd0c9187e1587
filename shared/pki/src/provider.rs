//! The crypto library that this crate uses.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// Returns the crypto provider of the workspace.
///
/// It is named here and not taken from the process. If a dependency enables a second library by a feature, the default of
/// the process becomes ambiguous, and rustls panics.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
