//! The steps, one function each: change the world, measure, claim.

use std::time::{Duration, Instant};

use anyhow::Context;
use shared::cli;
use shared::lifecycle::Lifecycle;
use shared::poll;
use shared::report::Story;
use shared::stats::Shares;
use shared::xds::cache::OnRefusal;
use shared::xds::dialogue::Said;
use shared::xds::plane::{is_ack, is_sent};
use shared::xds::{ControlPlane, ResourceType};

use super::{CALLS, LIMIT, Mesh, Plan, RATE, backend, tally};
use crate::caller::{Call, Load};
use crate::topology::CLUSTER;

/// How many answers in a row from others show that Envoy has let go of a backend. Round robin over
/// three or more would have come by it several times.
const IN_A_ROW: usize = 40;

impl Mesh {
    /// Calls spread evenly, and Envoy's own counters agree with what the client saw.
    pub(super) async fn spread_evenly(&self, story: &mut Story) -> anyhow::Result<()> {
        let first = self.caller.call().await;
        first.answer.context("the first call through Envoy failed")?;
        story.tell(format!("first answer {} after the start", ms(self.begun.elapsed())));
        let before = self.counted_by_envoy().await?;

        let bar = story.progress("calls", CALLS as u64);
        let calls = self.caller.calls(CALLS, 8).await;
        bar.finish_and_clear();
        let seen = tally(&calls);
        let after = self.counted_by_envoy().await?;
        story.tell(format!("{CALLS} calls, 8 at a time: {}", seen.latencies));
        let fit = seen.shares.fit_evenly(self.names());
        story.claim(
            "even-shares",
            "Three backends get equal shares",
            format!("{CALLS} calls, chi² at most {:.2}", fit.bound),
            format!("{}; chi² {:.2}", seen.shares, fit.statistic),
            fit.holds() && seen.failed() == 0,
        );
        story.claim(
            "envoy-counts-too",
            "Envoy counted the same calls",
            format!("{CALLS} requests to {CLUSTER}"),
            format!("{} more in its statistics", after - before),
            after - before == CALLS as u64,
        );
        let order: Vec<_> = self.first_answers()?;
        story.claim(
            "told-in-order",
            "Envoy was told everything by xDS, clusters first",
            "CDS, EDS, LDS, RDS",
            order.join(", "),
            order == ["CDS", "EDS", "LDS", "RDS"],
        );
        Ok(())
    }

    /// A new backend gets its share, and no call is lost over it.
    pub(super) async fn backend_joins(&mut self, story: &mut Story, life: &Lifecycle) -> anyhow::Result<()> {
        let joining = backend(4, life).await?;
        let mut load = Load::start(self.caller.clone(), RATE, life);
        let mark = self.control_plane()?.dialogue().mark();
        self.world = self.world.clone().with(joining.address());

        let published = Instant::now();
        self.control_plane()?.publish(self.world.snapshot()?);
        let answered = load.first_answer_by(joining.name(), LIMIT).await;
        let answered = answered.context("the joining backend never answered a call")?;
        self.backends.push(joining);
        let ended = load.so_far();
        self.enough_calls(&load, ended + CALLS).await?;
        let calls = load.stop().await;

        let sent: Vec<String> = self.sent_since(mark)?;
        story.tell(format!("{} from the new snapshot to the first answer", ms(answered - published)));
        story.claim("join-told-once", "Only the endpoints are sent", "EDS", sent.join(", "), sent == ["EDS"]);
        let since: Shares =
            calls.iter().filter(|call| call.started >= answered).filter_map(answerer).collect();
        let fit = since.fit_evenly(self.names());
        story.claim(
            "joined-share",
            "The fourth backend gets its quarter",
            format!("{} calls, chi² at most {:.2}", since.total(), fit.bound),
            format!("{since}; chi² {:.2}", fit.statistic),
            fit.holds(),
        );
        no_call_failed(story, "join-no-failure", "No call fails while it joins", &calls);
        Ok(())
    }

    /// A backend leaves: first from the world, then from the machine. No call is lost over it.
    pub(super) async fn backend_leaves(&mut self, story: &mut Story, life: &Lifecycle) -> anyhow::Result<()> {
        let leaving = self.backends.remove(0);
        let load = Load::start(self.caller.clone(), RATE, life);
        // Until it is seen to get calls, its absence would prove nothing.
        let before = leaving.calls();
        wait_for(&format!("{} calls to {}", 10, leaving.name()), || {
            let calls = leaving.calls() - before;
            if calls >= 10 { Ok(()) } else { Err(format!("{calls} calls")) }
        })
        .await?;
        self.world = self.world.clone().without(leaving.address());
        let mark = self.control_plane()?.dialogue().mark();
        let published = Instant::now();
        self.control_plane()?.publish(self.world.snapshot()?);
        let dialogue = self.control_plane()?.dialogue().clone();
        let ack = dialogue.wait_for(mark, |event| is_ack(event, ResourceType::Endpoints));
        tokio::time::timeout(LIMIT, ack).await.context("Envoy did not answer the new endpoints")?;
        let acked = published.elapsed();
        wait_for(&format!("{IN_A_ROW} calls in a row that {} did not get", leaving.name()), || {
            let calls = load.snapshot();
            let tail = calls.iter().rev().take(IN_A_ROW);
            let fresh =
                tail.clone().all(|call| call.started > published && !call.answered_by(leaving.name()));
            if fresh && tail.count() == IN_A_ROW { Ok(()) } else { Err(format!("{} calls", calls.len())) }
        })
        .await?;
        let last = load.last_answer_by(leaving.name()).and_then(|at| at.checked_duration_since(published));
        let answered_before = leaving.calls();
        leaving.drain().await;
        let ended = load.so_far();
        self.enough_calls(&load, ended + CALLS).await?;
        let calls = load.stop().await;

        story.tell(format!(
            "Envoy accepted the new endpoints after {}; the removed backend's last answer came {}",
            ms(acked),
            last.map_or_else(|| "before they were sent".to_owned(), |last| format!("after {}", ms(last)))
        ));
        story.claim(
            "left-no-calls",
            "The removed backend gets no call any more",
            format!("0 of {} calls", calls.len() - ended),
            format!("{} calls", leaving.calls() - answered_before),
            leaving.calls() == answered_before,
        );
        no_call_failed(story, "leave-no-failure", "No call fails while it leaves", &calls);
        Ok(())
    }

    /// Without its control plane Envoy goes on; when it returns, only what changed is sent.
    pub(super) async fn control_plane_returns(
        &mut self,
        plan: &Plan,
        story: &mut Story,
        life: &Lifecycle,
    ) -> anyhow::Result<()> {
        let stopping = self.control_plane.take().context("the control plane is stopped already")?;
        stopping.stop().await?;
        self.connected(0).await?;
        let calls = self.caller.calls(CALLS, 8).await;
        let seen = tally(&calls);
        story.claim(
            "alone-no-failure",
            "Calls go on without a control plane",
            format!("0 of {CALLS} fail"),
            format!("{} fail", seen.failed()),
            seen.failed() == 0 && seen.shares.total() == CALLS as u64,
        );

        // While it was away, the world went on.
        let newcomer = backend(5, life).await?;
        self.world = self.world.clone().with(newcomer.address());
        let mut load = Load::start(self.caller.clone(), RATE, life);
        let started = Instant::now();
        let control_plane =
            ControlPlane::start(cli::listen(self.xds_port.address()).await?, OnRefusal::Keep, life)?;
        plan.show_dialogue(&control_plane);
        let snapshot = control_plane.publish(self.world.snapshot()?);
        let control_plane = self.control_plane.insert(control_plane);
        let asked = control_plane.dialogue().wait_for(0, |event| matches!(event.said, Said::Opened { .. }));
        tokio::time::timeout(LIMIT, asked).await.context("Envoy did not come back")?;
        let reconnected = started.elapsed();
        let first = load.first_answer_by(newcomer.name(), LIMIT).await;
        let first = first.context("the backend that joined in the meantime never answered a call")?;
        self.backends.push(newcomer);
        // Every type was asked for again before we look at what was sent.
        for kind in [ResourceType::Cluster, ResourceType::Listener, ResourceType::Route] {
            let asks = control_plane.dialogue().wait_for(0, |event| {
                event.kind == kind.service() && matches!(event.said, Said::Asked { .. })
            });
            tokio::time::timeout(LIMIT, asks)
                .await
                .with_context(|| format!("Envoy did not ask for {kind}"))?;
        }
        control_plane.accepted(&snapshot, LIMIT).await?;
        let calls = load.stop().await;
        let sent = self.sent_since(0)?;
        story.tell(format!(
            "reconnected after {}, first answer of a backend that joined in the meantime after {}",
            ms(reconnected),
            ms(first - started)
        ));
        story.claim(
            "return-sends-difference",
            "A returning control plane sends only what Envoy lacks",
            "EDS",
            sent.join(", "),
            sent == ["EDS"],
        );
        no_call_failed(story, "return-no-failure", "No call fails while it returns", &calls);
        Ok(())
    }

    /// Requests to the backends that Envoy's statistics count.
    async fn counted_by_envoy(&self) -> anyhow::Result<u64> {
        let name = format!("cluster.{CLUSTER}.upstream_rq_total");
        let stats = self.envoy.admin().stats(&format!("^{}$", name.replace('.', "\\."))).await?;
        stats.get(&name).copied().with_context(|| format!("Envoy has no statistic {name}"))
    }

    /// Waits until Envoy says that it is (1) or is not (0) connected to a control plane.
    async fn connected(&self, state: u64) -> anyhow::Result<()> {
        let name = "control_plane.connected_state";
        let admin = self.envoy.admin();
        let found = poll::wait_until("Envoy to notice", Duration::from_millis(5), LIMIT, || async {
            let stats = admin.stats("control_plane").await.map_err(|error| error.to_string())?;
            let now = stats.get(name).copied();
            if now == Some(state) { Ok(()) } else { Err(format!("{name} is {now:?}")) }
        });
        Ok(found.await?)
    }

    async fn enough_calls(&self, load: &Load, calls: usize) -> anyhow::Result<()> {
        wait_for(&format!("{calls} calls"), || {
            let ended = load.so_far();
            if ended >= calls { Ok(()) } else { Err(format!("{ended} calls")) }
        })
        .await
    }

    /// The types of the responses since `mark`, in order.
    fn sent_since(&self, mark: u64) -> anyhow::Result<Vec<String>> {
        let events = self.control_plane()?.dialogue().since(mark);
        let sent = events.iter().filter(|event| matches!(event.said, Said::Sent { .. }));
        Ok(sent.map(|event| event.kind.clone()).collect())
    }

    /// The types in the order in which each was first sent.
    fn first_answers(&self) -> anyhow::Result<Vec<&'static str>> {
        let events = self.control_plane()?.dialogue().events();
        let first = |kind| events.iter().position(|event| is_sent(event, kind));
        let mut order: Vec<_> =
            ResourceType::ALL.into_iter().filter_map(|kind| Some((first(kind)?, kind.service()))).collect();
        order.sort_unstable();
        Ok(order.into_iter().map(|(_, service)| service).collect())
    }
}

fn no_call_failed(story: &mut Story, id: &str, claim: &str, calls: &[Call]) {
    let seen = tally(calls);
    let why = seen.first_failure.as_ref().map(|(_, status)| format!(", the first with {status}"));
    story.claim(
        id,
        claim,
        format!("0 of {} fail", calls.len()),
        format!("{} fail{}", seen.failed(), why.unwrap_or_default()),
        seen.failed() == 0 && !calls.is_empty(),
    );
}

fn answerer(call: &Call) -> Option<&str> {
    call.answer.as_deref().ok()
}

async fn wait_for(what: &str, mut look: impl FnMut() -> Result<(), String>) -> anyhow::Result<()> {
    Ok(poll::wait_until(what, Duration::from_millis(5), LIMIT, || std::future::ready(look())).await?)
}

fn ms(took: Duration) -> String {
    format!("{:.0} ms", took.as_secs_f64() * 1000.0)
}
