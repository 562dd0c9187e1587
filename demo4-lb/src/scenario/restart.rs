//! The control plane is away: who goes on, who cannot begin, and what is said when it returns.

use std::time::{Duration, Instant};

use anyhow::Context;
use mesh_xds::ResourceType;
use mesh_xds::event_log::{Event, EventKind};
use shared::envoy::{AdminError, Started};
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;

use super::claims::{failures, ms, no_call_failed};
use super::limits::{CALLS, LIMIT, RATE};
use super::mesh::{FIRST_ENVOY, Mesh, SECOND_ENVOY, start_backend, start_backends};
use crate::backend::Backend;
use crate::caller::Load;
use crate::topology::{DataPlane, DesiredState};

/// How long it may take until clients have heard of the return: tonic-xds waits up to 30 s between two attempts.
const RECONNECT_LIMIT: Duration = Duration::from_secs(90);

/// What an Envoy says of itself once it has tried to reach its control plane and could not.
async fn initial_state(envoy: &Started) -> anyhow::Result<String> {
    let admin = envoy.admin(LIMIT).await?;
    poll::wait_until("Envoy to look for its control plane", Duration::from_millis(10), LIMIT, || async {
        let stats = admin.stats("^cluster\\.xds\\.upstream_cx_connect_fail$").await;
        let failed: u64 = stats.map_err(|error| error.to_string())?.values().sum();
        if failed > 0 { Ok(()) } else { Err("it did not try yet".to_owned()) }
    })
    .await?;
    match admin.ready().await {
        Ok(()) => Ok("ready".to_owned()),
        Err(AdminError::NotReady { state }) => Ok(format!("not ready: {state}")),
        Err(other) => Err(other.into()),
    }
}

impl Mesh {
    /// Data planes need it for changes and to begin; what runs goes on.
    pub(super) async fn restart(&mut self, recorder: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let mut running = start_backends("backend", 3, scope).await?;
        self.publish_and_wait(&DesiredState::new(
            self.desired_state.listen,
            running.iter().map(Backend::address),
        ))
        .await?;
        let clients = self.data_plane_clients()?;
        for client in &clients {
            client.wait_for_backends(&running).await?;
        }
        let life = self.life.clone();
        self.take_control_plane().context("the control plane is stopped already")?.stop().await?;
        self.wait_for_connected_state(0).await?;
        for client in &clients {
            let seen = client.measure().await;
            recorder.claim(
                &client.id("outage-no-failure"),
                &format!("Calls go on without a control plane ({})", client.name()),
                format!("0 of {CALLS} fail"),
                failures(&seen),
                seen.failed() == 0 && seen.shares.total() == CALLS as u64,
            );
        }

        // Who begins now has nobody to ask.
        let new_client =
            self.plan.planes.has(DataPlane::Proxyless).then(|| self.proxyless_client()).transpose()?;
        if let Some(new_client) = &new_client {
            let call = new_client.call().await;
            recorder.claim(
                "outage-start-proxyless",
                "A proxyless client that starts meanwhile cannot call anybody",
                "its call fails",
                call.result.as_ref().map_or_else(|status| format!("{:?}", status.code()), Clone::clone),
                call.result.is_err(),
            );
        }
        let starting = match &self.envoy {
            Some(_) => {
                let started = self.start_envoy(SECOND_ENVOY, ([127, 0, 0, 1], 0).into(), scope).await?;
                let initial_state = initial_state(&started).await?;
                recorder.claim(
                    "outage-start-envoy",
                    "An Envoy that starts meanwhile does not serve",
                    "it runs, and is not ready",
                    &initial_state,
                    initial_state.starts_with("not ready"),
                );
                Some(started)
            }
            None => None,
        };

        // While it was away, the world went on.
        running.push(start_backend("backend", 4, scope).await?);
        let added = &running[3];
        let mut loads: Vec<Load> =
            clients.iter().map(|client| Load::start(client.caller.clone(), RATE, scope)).collect();
        let restarted = Instant::now();
        self.start_control_plane(&life).await?;
        self.publish(&self.desired_state.clone().with_backend(added.address()))?;
        for (client, load) in clients.iter().zip(&mut loads) {
            let first = load.first_reply_from(added.name(), RECONNECT_LIMIT).await;
            let first = first.context("the backend that joined in the meantime never answered a call")?;
            recorder.note(format!(
                "{}: first answer of a backend that joined in the meantime {} after the return",
                client.name(),
                ms(first - restarted)
            ));
        }
        if self.envoy.is_some() {
            self.check_only_changes_sent(recorder).await?;
        }
        if let Some(started) = starting {
            let sidecar = self.wait_until_serving(started).await?;
            let call = sidecar.caller.call().await;
            recorder.claim(
                "recovery-start-envoy",
                "It serves once the control plane is back",
                "a call through it is answered",
                call.result.as_ref().map_or_else(ToString::to_string, |name| format!("by {name}")),
                call.result.is_ok(),
            );
        }
        if let Some(new_client) = new_client {
            let found = poll::wait_until(
                "the waiting client's first answer",
                Duration::from_millis(20),
                RECONNECT_LIMIT,
                || async { new_client.call().await.result.map_err(|status| status.to_string()) },
            );
            let answered = found.await;
            recorder.claim(
                "recovery-start-proxyless",
                "It calls once the control plane is back",
                "a call is answered",
                answered.as_ref().map_or_else(ToString::to_string, |name| {
                    format!("by {name}, {} after the return", ms(restarted.elapsed()))
                }),
                answered.is_ok(),
            );
        }
        for (client, load) in clients.iter().zip(loads) {
            let calls = load.stop().await;
            let claim = format!("No call fails while it returns ({})", client.name());
            no_call_failed(recorder, &client.id("recovery-no-failure"), &claim, &calls);
        }
        Ok(())
    }

    /// Envoy says what it has, and is sent only what it lacks.
    async fn check_only_changes_sent(&self, recorder: &mut Recorder) -> anyhow::Result<()> {
        let event_log = self.control_plane()?.event_log();
        // Every type was asked for again before we look at what was sent.
        let from_envoy = |event: &Event| *event.node == *FIRST_ENVOY;
        for kind in
            [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener, ResourceType::Route]
        {
            let request = event_log.wait_for(0, |event| {
                from_envoy(event)
                    && event.type_name == kind.service()
                    && matches!(event.kind, EventKind::Request { .. })
            });
            tokio::time::timeout(LIMIT, request)
                .await
                .with_context(|| format!("Envoy did not ask for {kind}"))?;
        }
        let events = event_log.since(0);
        let sent = events
            .iter()
            .filter(|event| from_envoy(event) && matches!(event.kind, EventKind::Response { .. }));
        let sent: Vec<&str> = sent.map(|event| event.type_name.as_str()).collect();
        recorder.claim(
            "reconnect-sends-changes",
            "A returning control plane sends Envoy only what it lacks",
            "EDS",
            sent.join(", "),
            sent == ["EDS"],
        );
        Ok(())
    }

    /// Waits until Envoy says that it is (1) or is not (0) connected to a control plane.
    async fn wait_for_connected_state(&self, state: u64) -> anyhow::Result<()> {
        let Some(sidecar) = &self.envoy else { return Ok(()) };
        let name = "control_plane.connected_state";
        let admin = sidecar.envoy.admin();
        let found = poll::wait_until("Envoy to notice", Duration::from_millis(5), LIMIT, || async {
            let stats = admin.stats("control_plane").await.map_err(|error| error.to_string())?;
            let current = stats.get(name).copied();
            if current == Some(state) { Ok(()) } else { Err(format!("{name} is {current:?}")) }
        });
        Ok(found.await?)
    }
}
