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
use shared::report::Story;

use super::{Edge, LIMIT, ROLL_BACK};
use crate::client::{Load, sum_up};
use crate::topology::{APPS, World};

/// Requests of the steady load that have to end after each mistake, and while the control plane is away.
const STEADY: usize = 100;

/// Requests on connections of their own after each mistake: open ones and new ones are different things to Envoy.
const FRESH: usize = 20;

/// What came of a snapshot that Envoy should refuse.
struct Outcome {
    /// Envoy's refusal, if it did.
    nack: Option<Arc<Event>>,
    /// Whether the good snapshot came back by itself, and was accepted.
    back: bool,
}

impl Edge {
    /// Weights that add up to nothing, and a filter that does not exist: Envoy says no, and goes on.
    pub(super) async fn refuses_mistakes(
        &mut self,
        story: &mut Story,
        life: &Lifecycle,
    ) -> anyhow::Result<()> {
        let load = Load::start(&self.client()?, life);
        let nothing = World { weights: [0, 0], ..self.world.clone() };
        let mistakes = [
            ("bad-weights", "Weights that add up to nothing are", ResourceType::Route, nothing.snapshot()?),
            (
                "bad-listener",
                "A listener with an unknown filter is",
                ResourceType::Listener,
                self.world.with_unknown_filter()?,
            ),
        ];
        let least = mistakes.len() * STEADY;
        for (id, mistake, kind, bad) in mistakes {
            let outcome = self.is_refused(bad).await?;
            if let Some(nack) = &outcome.nack {
                story.tell(format!("Envoy: {}", in_short(nack)));
            }
            let by = outcome.nack.as_ref().map(|nack| format!("NACK by {}", nack.type_name));
            let expected = format!("NACK by {}", kind.service());
            story.claim(
                &format!("{id}-refused"),
                &format!("{mistake} refused, and rolled back"),
                format!("{expected}, then the good one"),
                format!(
                    "{}, then {}",
                    by.as_deref().unwrap_or("no NACK"),
                    if outcome.back { "the good one" } else { "no rollback" }
                ),
                by.as_ref() == Some(&expected) && outcome.back,
            );
            self.goes_on(story, id, kind, &load).await?;
        }
        self.no_failure(story, "mistakes-no-failure", "No request fails over either mistake", load, least)
            .await;
        Ok(())
    }

    /// Publishes a bad snapshot, and waits for the refusal and the rollback. Whatever comes, the good one is shown
    /// in the end.
    async fn is_refused(&self, bad: Snapshot) -> anyhow::Result<Outcome> {
        let control_plane = self.control_plane()?;
        let cache = control_plane.cache();
        let good = cache.snapshot(EVERYONE).context("nothing is published")?;
        let mark = control_plane.event_log().mark();
        control_plane.publish(bad);
        let nack =
            control_plane.event_log().wait_for(mark, |event| matches!(event.kind, EventKind::Nack { .. }));
        let nack = tokio::time::timeout(LIMIT, nack).await.ok();
        let is_back = || cache.snapshot(EVERYONE).is_some_and(|current| Arc::ptr_eq(&current, &good));
        let back = poll::wait_until("the rollback", Duration::from_millis(2), LIMIT, || {
            std::future::ready(if is_back() { Ok(()) } else { Err("the refused snapshot is still shown") })
        });
        let back = back.await.is_ok() && control_plane.accepted(&good, LIMIT).await.is_ok();
        if !is_back() {
            cache.set(EVERYONE, good);
        }
        Ok(Outcome { nack, back })
    }

    /// Traffic goes on with the last good snapshot: on open connections and on new ones, all to green by now.
    async fn goes_on(
        &self,
        story: &mut Story,
        id: &str,
        kind: ResourceType,
        load: &Load,
    ) -> anyhow::Result<()> {
        let (mark, client) = (load.so_far(), self.client()?);
        let mut hits = Vec::new();
        for _ in 0..FRESH {
            hits.push(client.get("/").await);
        }
        load.more(mark, STEADY, LIMIT).await?;
        hits.extend(load.since(mark));
        let (shares, failures) = sum_up(&hits);
        let first = failures.first().map(|first| format!("; {first}")).unwrap_or_default();
        story.claim(
            &format!("{id}-goes-on"),
            &format!("After a refused {} traffic goes on as before", kind.noun()),
            format!("{} or more requests, all by {}", STEADY + FRESH, APPS[1]),
            format!("{shares}{first}"),
            hits.len() >= STEADY + FRESH && shares.of(APPS[1]) == hits.len() as u64,
        );
        Ok(())
    }

    /// Without its control plane Envoy goes on; when one returns, nothing is sent that Envoy has.
    pub(super) async fn goes_on_alone(&mut self, story: &mut Story, life: &Lifecycle) -> anyhow::Result<()> {
        let load = Load::start(&self.client()?, life);
        let stopping = self.control_plane.take().context("the control plane is stopped already")?;
        stopping.stop().await?;
        let admin = self.envoy.admin();
        let noticed = poll::wait_until("Envoy to notice", Duration::from_millis(5), LIMIT, || async {
            let stats = admin.stats("control_plane").await.map_err(|error| error.to_string())?;
            match stats.get("control_plane.connected_state") {
                Some(0) => Ok(()),
                state => Err(format!("connected_state is {state:?}")),
            }
        });
        noticed.await?;
        let alone = load.so_far();
        load.more(alone, STEADY, LIMIT).await?;

        let listener = cli::listen_lab(self.xds_port.address()).await?;
        let control_plane = ControlPlane::start(listener, ROLL_BACK, &life.token())?;
        life.spawn(control_plane.ended());
        self.plan.log_events(&control_plane);
        let snapshot = control_plane.publish(self.world.snapshot()?);
        let control_plane = self.control_plane.insert(control_plane);
        // Every type was asked for again before we look at what was sent.
        for kind in ResourceType::ALL {
            let asks = control_plane.event_log().wait_for(0, |event| {
                event.type_name == kind.service() && matches!(event.kind, EventKind::Request { .. })
            });
            tokio::time::timeout(LIMIT, asks)
                .await
                .with_context(|| format!("Envoy did not ask for {kind}"))?;
        }
        control_plane.accepted(&snapshot, LIMIT).await?;
        let sent = sent_since(control_plane.event_log(), 0);
        story.claim(
            "return-repeats-nothing",
            "A returning control plane sends nothing that Envoy has",
            "no response",
            if sent.is_empty() { "no response".to_owned() } else { sent.join(", ") },
            sent.is_empty(),
        );
        let claim = "No request fails while it is away and returns";
        self.no_failure(story, "alone-no-failure", claim, load, STEADY).await;
        Ok(())
    }
}

/// The types of the responses since `mark`, in order.
pub(super) fn sent_since(event_log: &EventLog, mark: u64) -> Vec<String> {
    let events = event_log.since(mark);
    let sent = events.iter().filter(|event| matches!(event.kind, EventKind::Response { .. }));
    sent.map(|event| event.type_name.clone()).collect()
}

fn in_short(event: &Event) -> String {
    match &event.kind {
        EventKind::Nack { message, .. } => message.trim().chars().take(160).collect(),
        _ => event.to_string(),
    }
}
