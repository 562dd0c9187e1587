//! What most exercises here begin with: backends in regions, an Envoy, and a caller.

use std::net::Ipv4Addr;

use anyhow::Context;
use mesh_lab::{CheckContext, Requirement};
use mesh_lab_xds::XdsEnvoy;
use shared::envoy::Serving;
use shared::lifecycle::Lifecycle;
use tokio::net::TcpListener;

use crate::backend::Backend;
use crate::caller::{Call, Caller, Tally};
pub(super) use crate::scenario::claims::by_region;

/// Calls at once, where many are made.
const CONCURRENCY: usize = 8;

/// Starts a region's backends, named `REGION-1` and so on.
pub(super) async fn start_backends(region: &str, n: usize, life: &Lifecycle) -> anyhow::Result<Vec<Backend>> {
    let mut started = Vec::new();
    for number in 1..=n {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("no free port for a backend")?;
        started.push(Backend::start(&format!("{region}-{number}"), region, listener, life));
    }
    Ok(started)
}

/// The values to fill in for these backends: `EAST_1` for the port of `east-1`.
pub(super) fn port_values<'a>(backends: impl IntoIterator<Item = &'a Backend>) -> Vec<(String, String)> {
    let value = |backend: &Backend| {
        (backend.name().to_uppercase().replace('-', "_"), backend.address().port().to_string())
    };
    backends.into_iter().map(value).collect()
}

/// Starts Envoy with the student's file, and returns it with a caller of its one listener.
pub(super) async fn start_envoy(
    context: &CheckContext,
    file: &str,
    values: &[(String, String)],
) -> anyhow::Result<(Serving, Caller)> {
    let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let envoy = context.envoy(file, &values).await?;
    let Some(listener) = envoy.admin().listeners().await?.into_iter().next() else {
        let advice = "Leave the listener as it was given.";
        let what = format!("{file} has a listener");
        return Err(Requirement::unmet(what, "one listener", "Envoy listens nowhere", advice).into());
    };
    let caller = Caller::connect(&format!("http://{}", listener.address))?;
    Ok((envoy, caller))
}

/// A caller of the listener that Envoy was told of.
pub(super) async fn connect(mesh: &XdsEnvoy) -> anyhow::Result<Caller> {
    Ok(Caller::connect(&format!("http://{}", mesh.listener().await?))?)
}

/// Makes calls, a few at a time.
pub(super) async fn tally(caller: &Caller, n: usize) -> Tally {
    caller.calls(n, CONCURRENCY).await.iter().collect()
}

/// Requires that no call failed, and reports the first failure.
pub(super) fn require_no_failures(context: &mut CheckContext, what: &str, calls: &[Call], advice: &str) {
    let seen: Tally = calls.iter().collect();
    let failed = seen.failed();
    let first = seen.first_failure.as_ref().map(|(_, status)| {
        format!(
            ", the first with {:?}: {}",
            status.code(),
            status.message().chars().take(200).collect::<String>()
        )
    });
    let seen = format!("{failed} of {} calls failed{}", calls.len(), first.unwrap_or_default());
    context.require(what, "0 failed calls", seen, failed == 0 && !calls.is_empty(), advice);
}
