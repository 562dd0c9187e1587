//! The steps about what goes wrong: refused configuration, and a control plane that is away.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use shared::cli;
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Story;
use shared::xds::cache::{EVERYONE, OnRefusal};
use shared::xds::dialogue::{Event, Said};
use shared::xds::{ControlPlane, Dialogue, ResourceType, Snapshot};

use super::{Edge, LIMIT};
use crate::client::Load;

impl Edge {
    /// Weights that add up to nothing, and a filter that does not exist: Envoy says no, and goes on.
    pub(super) async fn refuses_mistakes(
        &mut self,
        story: &mut Story,
        life: &Lifecycle,
    ) -> anyhow::Result<()> {
        let load = Load::start(&self.client()?, life);
        let good = self.control_plane()?.cache().snapshot(EVERYONE).context("nothing is published")?;

        let mut nothing = self.world.clone();
        nothing.weights = [0, 0];
        let told = self.is_refused(&good, nothing.snapshot()?).await?;
        story.tell(format!("Envoy on weights 0/0: {}", in_short(&told)));
        story.claim(
            "bad-weights-refused",
            "Weights that add up to nothing are refused, and rolled back",
            "NACK by RDS",
            format!("NACK by {}", told.kind),
            told.kind == ResourceType::Route.service(),
        );
        let told = self.is_refused(&good, self.world.with_unknown_filter()?).await?;
        story.tell(format!("Envoy on an unknown filter: {}", in_short(&told)));
        story.claim(
            "bad-listener-refused",
            "A listener with an unknown filter is refused, and rolled back",
            "NACK by LDS",
            format!("NACK by {}", told.kind),
            told.kind == ResourceType::Listener.service(),
        );
        self.no_failure(story, "mistakes-no-failure", "No request fails over either mistake", load).await;
        Ok(())
    }

    /// Publishes a bad snapshot; returns Envoy's refusal once the good one is back.
    async fn is_refused(&self, good: &Arc<Snapshot>, bad: Snapshot) -> anyhow::Result<Arc<Event>> {
        let control_plane = self.control_plane()?;
        let mark = control_plane.dialogue().mark();
        control_plane.publish(bad);
        let nack = control_plane.dialogue().wait_for(mark, |event| matches!(event.said, Said::Nack { .. }));
        let nack = tokio::time::timeout(LIMIT, nack).await.context("Envoy did not refuse it")?;
        let back = poll::wait_until("the rollback", Duration::from_millis(2), LIMIT, || {
            let current = control_plane.cache().snapshot(EVERYONE);
            let back = current.is_some_and(|current| Arc::ptr_eq(&current, good));
            std::future::ready(if back { Ok(()) } else { Err("the refused snapshot is still shown") })
        });
        back.await?;
        control_plane.accepted(good, LIMIT).await?;
        Ok(nack)
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
        let goes_on =
            poll::wait_until("traffic without a control plane", Duration::from_millis(5), LIMIT, || {
                let since = load.so_far() - alone;
                std::future::ready(if since >= 100 { Ok(()) } else { Err(format!("{since} requests")) })
            });
        goes_on.await?;

        let listener = cli::listen_lab(self.xds_port.address()).await?;
        let control_plane = ControlPlane::start(listener, OnRefusal::RollBack, life)?;
        self.plan.show_dialogue(&control_plane);
        let snapshot = control_plane.publish(self.world.snapshot()?);
        let control_plane = self.control_plane.insert(control_plane);
        // Every type was asked for again before we look at what was sent.
        for kind in ResourceType::ALL {
            let asks = control_plane.dialogue().wait_for(0, |event| {
                event.kind == kind.service() && matches!(event.said, Said::Asked { .. })
            });
            tokio::time::timeout(LIMIT, asks)
                .await
                .with_context(|| format!("Envoy did not ask for {kind}"))?;
        }
        control_plane.accepted(&snapshot, LIMIT).await?;
        let sent = sent_since(control_plane.dialogue(), 0);
        story.claim(
            "return-repeats-nothing",
            "A returning control plane sends nothing that Envoy has",
            "no response",
            if sent.is_empty() { "no response".to_owned() } else { sent.join(", ") },
            sent.is_empty(),
        );
        self.no_failure(story, "alone-no-failure", "No request fails while it is away and returns", load)
            .await;
        Ok(())
    }
}

/// The types of the responses since `mark`, in order.
pub(super) fn sent_since(dialogue: &Dialogue, mark: u64) -> Vec<String> {
    let events = dialogue.since(mark);
    let sent = events.iter().filter(|event| matches!(event.said, Said::Sent { .. }));
    sent.map(|event| event.kind.clone()).collect()
}

fn in_short(event: &Event) -> String {
    match &event.said {
        Said::Nack { message, .. } => message.chars().take(160).collect(),
        _ => event.to_string(),
    }
}
