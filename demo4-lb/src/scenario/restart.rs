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
use super::mesh::{FIRST, Mesh, SECOND, backend, backends};
use crate::backend::Backend;
use crate::caller::Load;
use crate::topology::{DataPlane, World};

/// How long it may take until clients have heard of the return: tonic-xds waits up to 30 s between two attempts.
const RETURN: Duration = Duration::from_secs(90);

/// What an Envoy says of itself once it has tried to reach its control plane and could not.
async fn early(envoy: &Started) -> anyhow::Result<String> {
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
    pub(super) async fn restart(&mut self, story: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let mut up = backends("backend", 3, scope).await?;
        self.show(&World::new(self.world.listen, up.iter().map(Backend::address))).await?;
        let lanes = self.lanes()?;
        for lane in &lanes {
            lane.reach(&up).await?;
        }
        let life = self.life.clone();
        self.take_control_plane().context("the control plane is stopped already")?.stop().await?;
        self.connected(0).await?;
        for lane in &lanes {
            let seen = lane.measured().await;
            story.claim(
                &lane.id("alone-no-failure"),
                &format!("Calls go on without a control plane ({})", lane.name()),
                format!("0 of {CALLS} fail"),
                failures(&seen),
                seen.failed() == 0 && seen.shares.total() == CALLS as u64,
            );
        }

        // Who begins now has nobody to ask.
        let newcomer = self.plan.planes.has(DataPlane::Proxyless).then(|| self.proxyless()).transpose()?;
        if let Some(newcomer) = &newcomer {
            let call = newcomer.call().await;
            story.claim(
                "begin-alone-proxyless",
                "A proxyless client that starts meanwhile cannot call anybody",
                "its call fails",
                call.answer.as_ref().map_or_else(|status| format!("{:?}", status.code()), Clone::clone),
                call.answer.is_err(),
            );
        }
        let starting = match &self.envoy {
            Some(_) => {
                let started = self.start_envoy(SECOND, ([127, 0, 0, 1], 0).into(), scope).await?;
                let early = early(&started).await?;
                story.claim(
                    "begin-alone-envoy",
                    "An Envoy that starts meanwhile does not serve",
                    "it runs, and is not ready",
                    &early,
                    early.starts_with("not ready"),
                );
                Some(started)
            }
            None => None,
        };

        // While it was away, the world went on.
        up.push(backend("backend", 4, scope).await?);
        let joined = &up[3];
        let mut loads: Vec<Load> =
            lanes.iter().map(|lane| Load::start(lane.caller.clone(), RATE, scope)).collect();
        let back = Instant::now();
        self.start_control_plane(&life).await?;
        self.publish(&self.world.clone().with(joined.address()))?;
        for (lane, load) in lanes.iter().zip(&mut loads) {
            let first = load.first_answer_by(joined.name(), RETURN).await;
            let first = first.context("the backend that joined in the meantime never answered a call")?;
            story.note(format!(
                "{}: first answer of a backend that joined in the meantime {} after the return",
                lane.name(),
                ms(first - back)
            ));
        }
        if self.envoy.is_some() {
            self.sent_the_difference(story).await?;
        }
        if let Some(started) = starting {
            let sidecar = self.sidecar(started).await?;
            let call = sidecar.caller.call().await;
            story.claim(
                "begin-later-envoy",
                "It serves once the control plane is back",
                "a call through it is answered",
                call.answer.as_ref().map_or_else(ToString::to_string, |name| format!("by {name}")),
                call.answer.is_ok(),
            );
        }
        if let Some(newcomer) = newcomer {
            let found = poll::wait_until(
                "the waiting client's first answer",
                Duration::from_millis(20),
                RETURN,
                || async { newcomer.call().await.answer.map_err(|status| status.to_string()) },
            );
            let answered = found.await;
            story.claim(
                "begin-later-proxyless",
                "It calls once the control plane is back",
                "a call is answered",
                answered.as_ref().map_or_else(ToString::to_string, |name| {
                    format!("by {name}, {} after the return", ms(back.elapsed()))
                }),
                answered.is_ok(),
            );
        }
        for (lane, load) in lanes.iter().zip(loads) {
            let calls = load.stop().await;
            let claim = format!("No call fails while it returns ({})", lane.name());
            no_call_failed(story, &lane.id("return-no-failure"), &claim, &calls);
        }
        Ok(())
    }

    /// Envoy says what it has, and is sent only what it lacks.
    async fn sent_the_difference(&self, story: &mut Recorder) -> anyhow::Result<()> {
        let event_log = self.control_plane()?.event_log();
        // Every type was asked for again before we look at what was sent.
        let of_envoy = |event: &Event| *event.node == *FIRST;
        for kind in
            [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener, ResourceType::Route]
        {
            let asks = event_log.wait_for(0, |event| {
                of_envoy(event)
                    && event.type_name == kind.service()
                    && matches!(event.kind, EventKind::Request { .. })
            });
            tokio::time::timeout(LIMIT, asks)
                .await
                .with_context(|| format!("Envoy did not ask for {kind}"))?;
        }
        let events = event_log.since(0);
        let sent =
            events.iter().filter(|event| of_envoy(event) && matches!(event.kind, EventKind::Response { .. }));
        let sent: Vec<&str> = sent.map(|event| event.type_name.as_str()).collect();
        story.claim(
            "return-sends-difference",
            "A returning control plane sends Envoy only what it lacks",
            "EDS",
            sent.join(", "),
            sent == ["EDS"],
        );
        Ok(())
    }

    /// Waits until Envoy says that it is (1) or is not (0) connected to a control plane.
    async fn connected(&self, state: u64) -> anyhow::Result<()> {
        let Some(sidecar) = &self.envoy else { return Ok(()) };
        let name = "control_plane.connected_state";
        let admin = sidecar.envoy.admin();
        let found = poll::wait_until("Envoy to notice", Duration::from_millis(5), LIMIT, || async {
            let stats = admin.stats("control_plane").await.map_err(|error| error.to_string())?;
            let now = stats.get(name).copied();
            if now == Some(state) { Ok(()) } else { Err(format!("{name} is {now:?}")) }
        });
        Ok(found.await?)
    }
}
