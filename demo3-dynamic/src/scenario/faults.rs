//! The steps about what goes wrong: refused configuration, and a control plane that is away.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mesh_xds::cache::EVERYONE;
use mesh_xds::event_log::{Event, EventKind};
use mesh_xds::{ControlPlane, EventLog, ResourceType, Snapshot};
use shared::cli;
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Recorder;

use super::{Demo, LIMIT, ROLL_BACK};
use crate::client::{Load, summarize};
use crate::topology::{APPS, DesiredState};

/// Requests of the steady load that have to end after each mistake, and while the control plane is away.
const LOAD_REQUESTS: usize = 100;

/// Requests on connections of their own after each mistake: open ones and new ones are different things to Envoy.
const NEW_CONNECTIONS: usize = 20;

/// The outcome of a snapshot that Envoy should reject.
struct RejectionOutcome {
    /// Envoy's refusal, if it did.
    nack: Option<Arc<Event>>,
    /// Whether the good snapshot came back by itself, and was accepted.
    rolled_back: bool,
}

impl Demo {
    /// Weights that add up to nothing, and a filter that does not exist: Envoy says no, and goes on.
    pub(super) async fn check_rejected_snapshots(
        &mut self,
        recorder: &mut Recorder,
        life: &Lifecycle,
    ) -> anyhow::Result<()> {
        let load = Load::start(&self.client()?, life);
        let zero_weights = DesiredState { weights: [0, 0], ..self.desired_state.clone() };
        let invalid_snapshots = [
            (
                "invalid-weights",
                "Weights that add up to nothing are",
                ResourceType::Route,
                zero_weights.snapshot()?,
            ),
            (
                "invalid-listener",
                "A listener with an unknown filter is",
                ResourceType::Listener,
                self.desired_state.with_unknown_filter()?,
            ),
        ];
        let minimum = invalid_snapshots.len() * LOAD_REQUESTS;
        for (id, description, kind, invalid) in invalid_snapshots {
            let outcome = self.publish_invalid(invalid).await?;
            if let Some(nack) = &outcome.nack {
                recorder.note(format!("Envoy: {}", nack_message(nack)));
            }
            let nack_by = outcome.nack.as_ref().map(|nack| format!("NACK by {}", nack.type_name));
            let expected = format!("NACK by {}", kind.service());
            recorder.claim(
                &format!("{id}-rejected"),
                &format!("{description} refused, and rolled back"),
                format!("{expected}, then the good one"),
                format!(
                    "{}, then {}",
                    nack_by.as_deref().unwrap_or("no NACK"),
                    if outcome.rolled_back { "the good one" } else { "no rollback" }
                ),
                nack_by.as_ref() == Some(&expected) && outcome.rolled_back,
            );
            self.check_traffic_unchanged(recorder, id, kind, &load).await?;
        }
        self.claim_no_failure(
            recorder,
            "rejection-no-failure",
            "No request fails over either mistake",
            load,
            minimum,
        )
        .await;
        Ok(())
    }

    /// Publishes a bad snapshot, and waits for the refusal and the rollback. Whatever comes, the good one is shown
    /// in the end.
    async fn publish_invalid(&self, invalid: Snapshot) -> anyhow::Result<RejectionOutcome> {
        let control_plane = self.control_plane()?;
        let cache = control_plane.cache();
        let accepted_snapshot = cache.snapshot(EVERYONE).context("nothing is published")?;
        let log_position = control_plane.event_log().mark();
        control_plane.publish(invalid);
        let nack = control_plane
            .event_log()
            .wait_for(log_position, |event| matches!(event.kind, EventKind::Nack { .. }));
        let nack = tokio::time::timeout(LIMIT, nack).await.ok();
        let is_rolled_back =
            || cache.snapshot(EVERYONE).is_some_and(|current| Arc::ptr_eq(&current, &accepted_snapshot));
        let rolled_back = poll::wait_until("the rollback", Duration::from_millis(2), LIMIT, || {
            std::future::ready(if is_rolled_back() {
                Ok(())
            } else {
                Err("the refused snapshot is still shown")
            })
        });
        let rolled_back =
            rolled_back.await.is_ok() && control_plane.accepted(&accepted_snapshot, LIMIT).await.is_ok();
        if !is_rolled_back() {
            cache.set(EVERYONE, accepted_snapshot);
        }
        Ok(RejectionOutcome { nack, rolled_back })
    }

    /// Traffic goes on with the last good snapshot: on open connections and on new ones, all to green by now.
    async fn check_traffic_unchanged(
        &self,
        recorder: &mut Recorder,
        id: &str,
        kind: ResourceType,
        load: &Load,
    ) -> anyhow::Result<()> {
        let (start, client) = (load.completed(), self.client()?);
        let mut results = Vec::new();
        for _ in 0..NEW_CONNECTIONS {
            results.push(client.get("/").await);
        }
        load.wait_for(start, LOAD_REQUESTS, LIMIT).await?;
        results.extend(load.since(start));
        let (shares, failures) = summarize(&results);
        let first = failures.first().map(|first| format!("; {first}")).unwrap_or_default();
        recorder.claim(
            &format!("{id}-no-impact"),
            &format!("After a refused {} traffic goes on as before", kind.noun()),
            format!("{} or more requests, all by {}", LOAD_REQUESTS + NEW_CONNECTIONS, APPS[1]),
            format!("{shares}{first}"),
            results.len() >= LOAD_REQUESTS + NEW_CONNECTIONS && shares.of(APPS[1]) == results.len() as u64,
        );
        Ok(())
    }

    /// Without its control plane Envoy goes on; when one returns, nothing is sent that Envoy has.
    pub(super) async fn check_control_plane_outage(
        &mut self,
        recorder: &mut Recorder,
        life: &Lifecycle,
    ) -> anyhow::Result<()> {
        let load = Load::start(&self.client()?, life);
        let control_plane = self.control_plane.take().context("the control plane is stopped already")?;
        control_plane.stop().await?;
        let admin = self.envoy.admin();
        let disconnected = poll::wait_until("Envoy to notice", Duration::from_millis(5), LIMIT, || async {
            let stats = admin.stats("control_plane").await.map_err(|error| error.to_string())?;
            match stats.get("control_plane.connected_state") {
                Some(0) => Ok(()),
                state => Err(format!("connected_state is {state:?}")),
            }
        });
        disconnected.await?;
        let outage_start = load.completed();
        load.wait_for(outage_start, LOAD_REQUESTS, LIMIT).await?;

        let listener = cli::listen_on_lab_port(self.xds_port.address()).await?;
        let control_plane = ControlPlane::start(listener, ROLL_BACK, &life.token())?;
        life.spawn(control_plane.ended());
        self.plan.log_events(&control_plane);
        let snapshot = control_plane.publish(self.desired_state.snapshot()?);
        let control_plane = self.control_plane.insert(control_plane);
        // Every type was asked for again before we look at what was sent.
        for kind in ResourceType::ALL {
            let request = control_plane.event_log().wait_for(0, |event| {
                event.type_name == kind.service() && matches!(event.kind, EventKind::Request { .. })
            });
            tokio::time::timeout(LIMIT, request)
                .await
                .with_context(|| format!("Envoy did not ask for {kind}"))?;
        }
        control_plane.accepted(&snapshot, LIMIT).await?;
        let sent = sent_since(control_plane.event_log(), 0);
        recorder.claim(
            "reconnect-sends-nothing",
            "A returning control plane sends nothing that Envoy has",
            "no response",
            if sent.is_empty() { "no response".to_owned() } else { sent.join(", ") },
            sent.is_empty(),
        );
        let claim = "No request fails while it is away and returns";
        self.claim_no_failure(recorder, "outage-no-failure", claim, load, LOAD_REQUESTS).await;
        Ok(())
    }
}

/// The types of the responses since `log_position`, in order.
pub(super) fn sent_since(event_log: &EventLog, log_position: u64) -> Vec<String> {
    let events = event_log.since(log_position);
    let sent = events.iter().filter(|event| matches!(event.kind, EventKind::Response { .. }));
    sent.map(|event| event.type_name.clone()).collect()
}

fn nack_message(event: &Event) -> String {
    match &event.kind {
        EventKind::Nack { message, .. } => message.trim().chars().take(160).collect(),
        _ => event.to_string(),
    }
}
