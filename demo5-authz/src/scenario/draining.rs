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
use super::mesh::{Mesh, PAIR};
use crate::authorizer::Authorizer;
use crate::client::{Call, Protocol, Wish};

/// Calls before and after, at least.
const CALLS: u64 = 50;

impl Mesh {
    /// It says NOT_SERVING, Envoy's health check hears of it, and only then it goes.
    pub(super) async fn draining(&self, story: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let [(leaving, running), (staying, _)] = &self.pair;
        let (caller, token) = (self.at(PAIR)?, self.token("rita", &["reader"])?);
        let enough = CancellationToken::new();
        let made = Arc::new(AtomicU64::new(0));
        let load = scope.spawn({
            let (enough, made) = (enough.clone(), Arc::clone(&made));
            async move {
                let call = Call::new(Wish::Hello).token(&token);
                let mut failed = 0_u64;
                while !enough.is_cancelled() {
                    let seen = caller.call(Protocol::Grpc, &call).await;
                    failed += u64::from(!seen.is_ok_and(|seen| seen.passed()));
                    made.fetch_add(1, Ordering::Relaxed);
                }
                failed
            }
        });
        let asked = |authorizer: &Authorizer| authorizer.metrics().checks().0;
        at_least("both to be asked", || asked(leaving).min(asked(staying)), CALLS).await?;
        let (heard, gone) = tokio::join!(self.unhealthy(running.address()), async {
            running.drain().await;
            Instant::now()
        });
        let heard = heard?;
        let (last, before) = (asked(leaving), asked(staying));
        at_least("the other one to be asked", || asked(staying) - before, CALLS).await?;
        enough.cancel();
        let failed = load.await?;
        let made = made.load(Ordering::Relaxed);
        let after = asked(leaving) - last;
        story.claim(
            "health-is-heard",
            "It says NOT_SERVING first: Envoy's health check passes it over while it still answers",
            "before it has gone",
            format!("{:.0?} before it had gone", gone.saturating_duration_since(heard)),
            heard < gone,
        );
        story.claim(
            "drain-loses-no-call",
            "An authorizer that is told to stop leaves without one call failing, and the other one takes over",
            format!("0 of {made} calls fail; it is asked 0 times when it has gone"),
            format!("{failed} fail; asked {after} times; before that {last}, the other one {} in all", asked(staying)),
            failed == 0 && after == 0,
        );
        Ok(())
    }

    /// When Envoy took this authorizer out, by its own account.
    async fn unhealthy(&self, address: SocketAddr) -> anyhow::Result<Instant> {
        let look = || async {
            let clusters = self.envoy.admin().clusters().await.map_err(|error| error.to_string())?;
            let pair =
                clusters.into_iter().filter(|cluster| cluster.name == PAIR).flat_map(|cluster| cluster.hosts);
            match pair.into_iter().find(|host| host.address == address) {
                Some(host) if !host.health.is_healthy() => Ok(Instant::now()),
                host => Err(format!("{host:?}")),
            }
        };
        Ok(wait_until("Envoy's health check", OFTEN, LIMIT, look).await?)
    }
}

async fn at_least(what: &str, count: impl Fn() -> u64, least: u64) -> anyhow::Result<()> {
    let look = || {
        let seen = count();
        std::future::ready(if seen >= least { Ok(()) } else { Err(seen) })
    };
    Ok(wait_until(what, OFTEN, LIMIT, look).await?)
}
