//! One address and no mesh: what is missing.

use shared::lifecycle::Lifecycle;
use shared::report::Recorder;

use super::claims::failures;
use super::mesh::{Mesh, start_backends};
use crate::caller::{Caller, Tally};

/// Enough to see that nothing is spread.
const CALLS: usize = 100;

impl Mesh {
    /// A client with one address has one backend, and with that backend's end it has none.
    pub(super) async fn plain(&self, recorder: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let backends = start_backends("plain", 2, scope).await?;
        let [called, idle] = backends.as_slice() else { anyhow::bail!("two backends were started") };
        let caller = Caller::connect(&format!("http://{}", called.address()))?;
        let seen: Tally = caller.calls(CALLS, 8).await.iter().collect();
        recorder.claim(
            "plain-one-backend",
            "A client with one address calls one backend",
            format!("{} {CALLS}, {} 0", called.name(), idle.name()),
            format!("{}, {} {}", seen.shares, idle.name(), idle.calls()),
            seen.shares.of(called.name()) == CALLS as u64 && idle.calls() == 0,
        );
        called.kill().await;
        let seen: Tally = caller.calls(CALLS, 8).await.iter().collect();
        recorder.claim(
            "plain-all-fail",
            "When that one dies every call fails, though another is well",
            format!("{CALLS} of {CALLS} fail"),
            failures(&seen),
            seen.failed() == CALLS as u64 && idle.calls() == 0,
        );
        Ok(())
    }
}
