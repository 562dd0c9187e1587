//! Backends come and go under steady load. The order is what saves the calls: into the world before the
//! first call, out of the world before the last one ends.

use std::time::Instant;

use anyhow::Context;
use mesh_xds::event_log::EventKind;
use shared::lifecycle::Lifecycle;
use shared::report::Recorder;
use shared::stats::Shares;

use super::claims::{ms, no_call_failed, shares_fit, wait_for};
use super::lane::Lane;
use super::limits::{LIMIT, RATE};
use super::mesh::{Mesh, backend, backends};
use crate::backend::Backend;
use crate::caller::Load;
use crate::topology::World;

/// Calls of each client to wait for after a backend has left: with a hundredth of them it would still be seen, in
/// all but one of 20 runs; with its old share, a fourth, in all but one of 10^37.
const AFTER: usize = 300;

/// What the backends of this step are called.
const NAME: &str = "backend";

impl Mesh {
    /// One joins, one leaves, and then all are replaced, one at a time.
    pub(super) async fn rolling(&mut self, story: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let mut up = backends(NAME, 3, scope).await?;
        self.show(&World::new(self.world.listen, up.iter().map(Backend::address))).await?;
        let lanes = self.lanes()?;
        for lane in &lanes {
            lane.reach(&up).await?;
        }
        self.joins(story, &lanes, &mut up, scope).await?;
        self.leaves(story, &lanes, &mut up, scope).await?;
        self.replaced(story, &lanes, &mut up, scope).await
    }

    async fn joins(
        &mut self,
        story: &mut Recorder,
        lanes: &[Lane],
        up: &mut Vec<Backend>,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let mut loads = start(lanes, scope);
        let mark = self.control_plane()?.event_log().mark();
        up.push(backend(NAME, 4, scope).await?);
        let joining = &up[3];
        let published = Instant::now();
        self.publish(&self.world.clone().with(joining.address()))?;
        for (lane, load) in lanes.iter().zip(&mut loads) {
            let first = load.first_answer_by(joining.name(), LIMIT).await;
            let first = first.context("the joining backend never answered a call")?;
            let took = ms(first - published);
            story.note(format!(
                "{}: {took} from the new world to the new backend's first answer",
                lane.name()
            ));
        }
        for lane in lanes {
            lane.reach(&*up).await?;
            let seen = lane.measured().await;
            let fit = seen.shares.fit_evenly(up.iter().map(Backend::name));
            let claim = format!("A fourth backend gets its quarter ({})", lane.name());
            shares_fit(story, &lane.id("joined-share"), &claim, "a quarter each", &seen, fit);
        }
        let events = self.control_plane()?.event_log().since(mark);
        let sent = events.iter().filter(|event| matches!(event.kind, EventKind::Response { .. }));
        let sent: Shares = sent.map(|event| event.type_name.as_str()).collect();
        story.claim(
            "join-told-once",
            "Each client is sent the endpoints, once, and nothing else",
            format!("EDS {}", lanes.len()),
            &sent,
            sent.total() == lanes.len() as u64 && sent.of("EDS") == sent.total(),
        );
        stop(story, "join-no-failure", "No call fails while it joins", lanes, loads).await
    }

    async fn leaves(
        &mut self,
        story: &mut Recorder,
        lanes: &[Lane],
        up: &mut Vec<Backend>,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let loads = start(lanes, scope);
        let leaving = up.remove(0);
        // Until it is seen to get calls, its absence would prove nothing.
        let before = leaving.calls();
        wait_for(&format!("10 calls to {}", leaving.name()), || {
            let calls = leaving.calls() - before;
            if calls >= 10 { Ok(()) } else { Err(format!("{calls} calls")) }
        })
        .await?;
        self.show(&self.world.clone().without(leaving.address())).await?;
        for lane in lanes {
            lane.reach(&*up).await?;
        }
        // It still serves: who drains first can be called no more, and its silence would prove nothing.
        let answered = leaving.calls();
        for load in &loads {
            more(load, AFTER).await?;
        }
        let late = leaving.calls() - answered;
        story.claim(
            "left-no-calls",
            "A backend that left the world gets no call any more, though it still serves",
            format!("0 of the next {} calls", AFTER * loads.len()),
            format!("{late} calls"),
            late == 0,
        );
        leaving.drain().await;
        for load in &loads {
            more(load, AFTER).await?;
        }
        stop(story, "leave-no-failure", "No call fails while it leaves", lanes, loads).await
    }

    async fn replaced(
        &mut self,
        story: &mut Recorder,
        lanes: &[Lane],
        up: &mut Vec<Backend>,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let loads = start(lanes, scope);
        let all = up.len();
        let bar = story.progress("backends replaced", all as u64);
        for number in 0..all {
            up.push(backend("replacement", number + 1, scope).await?);
            let joining = up[up.len() - 1].address();
            self.show(&self.world.clone().with(joining)).await?;
            let leaving = up.remove(0);
            self.show(&self.world.clone().without(leaving.address())).await?;
            for lane in lanes {
                lane.reach(&*up).await?;
            }
            leaving.drain().await;
            bar.inc(1);
        }
        for load in &loads {
            more(load, AFTER).await?;
        }
        bar.finish_and_clear();
        stop(story, "rolling-no-failure", "No call fails while all are replaced", lanes, loads).await
    }
}

fn start(lanes: &[Lane], scope: &Lifecycle) -> Vec<Load> {
    lanes.iter().map(|lane| Load::start(lane.caller.clone(), RATE, scope)).collect()
}

/// Waits until this many more calls of the load have ended.
async fn more(load: &Load, calls: usize) -> anyhow::Result<()> {
    let wanted = load.so_far() + calls;
    wait_for(&format!("{wanted} calls"), || {
        let ended = load.so_far();
        if ended >= wanted { Ok(()) } else { Err(format!("{ended} calls")) }
    })
    .await
}

/// Ends the loads, and claims for each lane that no call of it failed.
async fn stop(
    story: &mut Recorder,
    id: &str,
    claim: &str,
    lanes: &[Lane],
    loads: Vec<Load>,
) -> anyhow::Result<()> {
    for (lane, load) in lanes.iter().zip(loads) {
        let calls = load.stop().await;
        no_call_failed(story, &lane.id(id), &format!("{claim} ({})", lane.name()), &calls);
    }
    Ok(())
}
