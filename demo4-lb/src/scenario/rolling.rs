//! Backends come and go under steady load. The order is what saves the calls: into the world before the
//! first call, out of the world before the last one ends.

use std::time::Instant;

use anyhow::Context;
use mesh_xds::event_log::EventKind;
use shared::lifecycle::Lifecycle;
use shared::report::Recorder;
use shared::stats::Shares;

use super::claims::{ms, no_call_failed, shares_fit, wait_for};
use super::client::DataPlaneClient;
use super::limits::{LIMIT, RATE};
use super::mesh::{Mesh, start_backend, start_backends};
use crate::backend::Backend;
use crate::caller::Load;
use crate::topology::DesiredState;

/// Calls of each client to wait for after a backend has left: with a hundredth of them it would still be seen, in
/// all but one of 20 runs; with its old share, a fourth, in all but one of 10^37.
const CALLS_AFTER_REMOVAL: usize = 300;

/// What the backends of this step are called.
const NAME_PREFIX: &str = "backend";

impl Mesh {
    /// One joins, one leaves, and then all are replaced, one at a time.
    pub(super) async fn rolling(&mut self, recorder: &mut Recorder, scope: &Lifecycle) -> anyhow::Result<()> {
        let mut running = start_backends(NAME_PREFIX, 3, scope).await?;
        self.publish_and_wait(&DesiredState::new(
            self.desired_state.listen,
            running.iter().map(Backend::address),
        ))
        .await?;
        let clients = self.data_plane_clients()?;
        for client in &clients {
            client.wait_for_backends(&running).await?;
        }
        self.add_backend(recorder, &clients, &mut running, scope).await?;
        self.remove_backend(recorder, &clients, &mut running, scope).await?;
        self.replace_all(recorder, &clients, &mut running, scope).await
    }

    async fn add_backend(
        &mut self,
        recorder: &mut Recorder,
        clients: &[DataPlaneClient],
        running: &mut Vec<Backend>,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let mut loads = start_loads(clients, scope);
        let log_position = self.control_plane()?.event_log().mark();
        running.push(start_backend(NAME_PREFIX, 4, scope).await?);
        let added = &running[3];
        let published = Instant::now();
        self.publish(&self.desired_state.clone().with_backend(added.address()))?;
        for (client, load) in clients.iter().zip(&mut loads) {
            let first = load.first_reply_from(added.name(), LIMIT).await;
            let first = first.context("the joining backend never answered a call")?;
            let duration = ms(first - published);
            recorder.note(format!(
                "{}: {duration} from the new world to the new backend's first answer",
                client.name()
            ));
        }
        for client in clients {
            client.wait_for_backends(&*running).await?;
            let seen = client.measure().await;
            let fit = seen.shares.fit_evenly(running.iter().map(Backend::name));
            let claim = format!("A fourth backend gets its quarter ({})", client.name());
            shares_fit(recorder, &client.id("added-share"), &claim, "a quarter each", &seen, fit);
        }
        let events = self.control_plane()?.event_log().since(log_position);
        let sent = events.iter().filter(|event| matches!(event.kind, EventKind::Response { .. }));
        let sent: Shares = sent.map(|event| event.type_name.as_str()).collect();
        recorder.claim(
            "add-eds-once",
            "Each client is sent the endpoints, once, and nothing else",
            format!("EDS {}", clients.len()),
            &sent,
            sent.total() == clients.len() as u64 && sent.of("EDS") == sent.total(),
        );
        stop_loads(recorder, "add-no-failure", "No call fails while it joins", clients, loads).await
    }

    async fn remove_backend(
        &mut self,
        recorder: &mut Recorder,
        clients: &[DataPlaneClient],
        running: &mut Vec<Backend>,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let loads = start_loads(clients, scope);
        let removed = running.remove(0);
        // Until it is seen to get calls, its absence would prove nothing.
        let before = removed.calls();
        wait_for(&format!("10 calls to {}", removed.name()), || {
            let calls = removed.calls() - before;
            if calls >= 10 { Ok(()) } else { Err(format!("{calls} calls")) }
        })
        .await?;
        self.publish_and_wait(&self.desired_state.clone().without_backend(removed.address())).await?;
        for client in clients {
            client.wait_for_backends(&*running).await?;
        }
        // It still serves: who drains first can be called no more, and its silence would prove nothing.
        let calls_before = removed.calls();
        for load in &loads {
            wait_for_calls(load, CALLS_AFTER_REMOVAL).await?;
        }
        let late_calls = removed.calls() - calls_before;
        recorder.claim(
            "removed-no-calls",
            "A backend that left the world gets no call any more, though it still serves",
            format!("0 of the next {} calls", CALLS_AFTER_REMOVAL * loads.len()),
            format!("{late_calls} calls"),
            late_calls == 0,
        );
        removed.drain().await;
        for load in &loads {
            wait_for_calls(load, CALLS_AFTER_REMOVAL).await?;
        }
        stop_loads(recorder, "remove-no-failure", "No call fails while it leaves", clients, loads).await
    }

    async fn replace_all(
        &mut self,
        recorder: &mut Recorder,
        clients: &[DataPlaneClient],
        running: &mut Vec<Backend>,
        scope: &Lifecycle,
    ) -> anyhow::Result<()> {
        let loads = start_loads(clients, scope);
        let all = running.len();
        let bar = recorder.progress("backends replaced", all as u64);
        for number in 0..all {
            running.push(start_backend("replacement", number + 1, scope).await?);
            let added = running[running.len() - 1].address();
            self.publish_and_wait(&self.desired_state.clone().with_backend(added)).await?;
            let removed = running.remove(0);
            self.publish_and_wait(&self.desired_state.clone().without_backend(removed.address())).await?;
            for client in clients {
                client.wait_for_backends(&*running).await?;
            }
            removed.drain().await;
            bar.inc(1);
        }
        for load in &loads {
            wait_for_calls(load, CALLS_AFTER_REMOVAL).await?;
        }
        bar.finish_and_clear();
        stop_loads(recorder, "rolling-no-failure", "No call fails while all are replaced", clients, loads)
            .await
    }
}

fn start_loads(clients: &[DataPlaneClient], scope: &Lifecycle) -> Vec<Load> {
    clients.iter().map(|client| Load::start(client.caller.clone(), RATE, scope)).collect()
}

/// Waits until this many more calls of the load have ended.
async fn wait_for_calls(load: &Load, calls: usize) -> anyhow::Result<()> {
    let wanted = load.completed() + calls;
    wait_for(&format!("{wanted} calls"), || {
        let ended = load.completed();
        if ended >= wanted { Ok(()) } else { Err(format!("{ended} calls")) }
    })
    .await
}

/// Ends the loads, and claims for each lane that no call of it failed.
async fn stop_loads(
    recorder: &mut Recorder,
    id: &str,
    claim: &str,
    clients: &[DataPlaneClient],
    loads: Vec<Load>,
) -> anyhow::Result<()> {
    for (client, load) in clients.iter().zip(loads) {
        let calls = load.stop().await;
        no_call_failed(recorder, &client.id(id), &format!("{claim} ({})", client.name()), &calls);
    }
    Ok(())
}
