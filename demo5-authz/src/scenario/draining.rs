//! An authorizer leaves in good order, and nobody notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shared::lifecycle::Lifecycle;
use shared::poll::wait_until;
use shared::report::Recorder;
use tokio_util::sync::CancellationToken;

use super::limits::{LIMIT, OFTEN};
use super::mesh::{Mesh, PAIR_LISTENER};
use crate::authorizer::Authorizer;
use crate::client::{Call, Operation, Protocol};

/// Calls before and after, at least.
const CALLS: u64 = 50;

impl Mesh {
    /// It says NOT_SERVING, Envoy's health check hears of it, and only then it goes.
    pub(super) async fn draining(&self, recorder: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let [(draining, running), (remaining, _)] = &self.pair;
        let (caller, token) = (self.caller_at(PAIR_LISTENER)?, self.token("rita", &["reader"])?);
        let stop = CancellationToken::new();
        let total = Arc::new(AtomicU64::new(0));
        let load = scope.spawn({
            let (stop, total) = (stop.clone(), Arc::clone(&total));
            async move {
                let call = Call::new(Operation::Hello).with_token(&token);
                let mut failed = 0_u64;
                while !stop.is_cancelled() {
                    let seen = caller.call(Protocol::Grpc, &call).await;
                    failed += u64::from(!seen.is_ok_and(|seen| seen.reached_backend()));
                    total.fetch_add(1, Ordering::Relaxed);
                }
                failed
            }
        });
        let checks = |authorizer: &Authorizer| authorizer.metrics().checks().0;
        wait_for_count("both to be asked", || checks(draining).min(checks(remaining)), CALLS).await?;
        let (unhealthy_at, stopped_at) = tokio::join!(self.wait_for_unhealthy(running.address()), async {
            running.drain().await;
            Instant::now()
        });
        let unhealthy_at = unhealthy_at?;
        let (last, before) = (checks(draining), checks(remaining));
        wait_for_count("the other one to be asked", || checks(remaining) - before, CALLS).await?;
        stop.cancel();
        let failed = load.await?;
        let total = total.load(Ordering::Relaxed);
        let after = checks(draining) - last;
        recorder.claim(
            "drain-unhealthy-first",
            "It says NOT_SERVING first: Envoy's health check passes it over while it still answers",
            "before it has gone",
            format!("{:.0?} before it had gone", stopped_at.saturating_duration_since(unhealthy_at)),
            unhealthy_at < stopped_at,
        );
        recorder.claim(
            "drain-no-failure",
            "An authorizer that is told to stop leaves without one call failing, and the other one takes over",
            format!("0 of {total} calls fail; it is asked 0 times when it has gone"),
            format!("{failed} fail; asked {after} times; before that {last}, the other one {} in all", checks(remaining)),
            failed == 0 && after == 0,
        );
        Ok(())
    }

    /// When Envoy took this authorizer out, by its own account.
    async fn wait_for_unhealthy(&self, address: SocketAddr) -> anyhow::Result<Instant> {
        let check = || async {
            let clusters = self.envoy.admin().clusters().await.map_err(|error| error.to_string())?;
            let pair = clusters
                .into_iter()
                .filter(|cluster| cluster.name == PAIR_LISTENER)
                .flat_map(|cluster| cluster.hosts);
            match pair.into_iter().find(|host| host.address == address) {
                Some(host) if !host.health.is_healthy() => Ok(Instant::now()),
                host => Err(format!("{host:?}")),
            }
        };
        Ok(wait_until("Envoy's health check", OFTEN, LIMIT, check).await?)
    }
}

async fn wait_for_count(what: &str, count: impl Fn() -> u64, minimum: u64) -> anyhow::Result<()> {
    let check = || {
        let seen = count();
        std::future::ready(if seen >= minimum { Ok(()) } else { Err(seen) })
    };
    Ok(wait_until(what, OFTEN, LIMIT, check).await?)
}
