//! How long the scenario waits.

use std::time::Duration;

/// How long the scenario waits for Envoy to become ready.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long any other wait may take. Much longer than needed, so that a slow machine does not fail a claim.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// The interval between two looks at a condition.
pub(super) const OFTEN: Duration = Duration::from_millis(5);
