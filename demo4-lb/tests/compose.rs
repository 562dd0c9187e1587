//! The demo in containers: what compose.yaml promises, on a real Docker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{BACKEND, CLIENT, CONTROL_PLANE, LIMIT};
use demo4_lb::caller::{Call, Caller, Load, Tally};
use demo4_lb::topology::CLUSTER;
use mesh_testkit::compose::{Plan, Stack};
use shared::envoy::Admin;
use shared::lifecycle::Lifecycle;

fn plan() -> Plan {
    Plan {
        file: Path::new(env!("CARGO_MANIFEST_DIR")).join("compose.yaml"),
        programs: [BACKEND, CLIENT, CONTROL_PLANE].map(Into::into).to_vec(),
        ports: ["DEMO4_PORT", "DEMO4_ADMIN_PORT"].map(Into::into).to_vec(),
    }
}

fn caller(stack: &Stack) -> Caller {
    Caller::connect(&format!("http://127.0.0.1:{}", stack.port("DEMO4_PORT"))).unwrap()
}

/// Waits until Envoy knows so many endpoints.
async fn wait_for_endpoints(stack: &Stack, expected: usize) {
    let admin = Admin::new(([127, 0, 0, 1], stack.port("DEMO4_ADMIN_PORT")).into());
    shared::poll::wait_until("Envoy's endpoints", common::OFTEN, LIMIT, async || {
        let clusters = admin.clusters().await.map_err(|error| error.to_string())?;
        let ours = clusters.iter().find(|cluster| cluster.name == CLUSTER);
        let hosts = ours.map_or(0, |cluster| cluster.hosts.len());
        if hosts == expected { Ok(()) } else { Err(format!("{hosts} endpoints")) }
    })
    .await
    .unwrap();
}

/// The host name of a container, by which a backend calls itself.
fn container_hostname(id: &str) -> &str {
    &id[..12]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker"]
async fn calls_reach_every_backend_and_continue_when_one_is_killed() {
    let stack = plan().up().await.unwrap();
    let backends = stack.containers("backend").await.unwrap();
    let names: BTreeSet<&str> = backends.iter().map(|backend| container_hostname(&backend.id)).collect();
    assert_eq!(names.len(), 3, "{backends:?}");

    let calls = caller(&stack).calls(90, 4).await;
    let tally: Tally = calls.iter().collect();
    assert_eq!(tally.failed(), 0, "{:?}", tally.first_failure);
    let answered: BTreeSet<&str> = tally.shares.iter().map(|(name, _)| name).collect();
    assert_eq!(answered, names);

    // The same from inside.
    let seen = stack.run(&["run", "--rm", "client", "--count", "30", "--json"]).await;
    let seen: serde_json::Value = serde_json::from_str(&seen.unwrap()).unwrap();
    assert_eq!(seen["answered"].as_object().unwrap().len(), 3, "{seen}");

    // And by clients without a proxy.
    let proxyless = ["--target", "xds:///echo", "--control-plane", "control-plane:14002", "--count", "60"];
    let seen = stack.run(&[&["run", "--rm", "client", "--json"], &proxyless[..]].concat()).await;
    let seen: serde_json::Value = serde_json::from_str(&seen.unwrap()).unwrap();
    assert_eq!(seen["answered"].as_object().unwrap().len(), 3, "{seen}");

    let life = Lifecycle::default();
    let load = Load::start(caller(&stack), 100, &life);
    let (killed_backend, remaining) = backends.split_first().unwrap();
    // A signal that ends nothing is no reason to take a backend out; its event comes before the next one.
    let signal = ["kill", "--signal", "WINCH", &remaining[0].id];
    let sent = std::process::Command::new("docker").args(signal).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let killed = Instant::now();
    stack.kill(killed_backend).await.unwrap();
    wait_for_endpoints(&stack, 2).await;
    println!("Envoy had let go of the killed backend {:?} after `docker kill` was called", killed.elapsed());
    let recovered = shared::poll::wait_until("50 answers in a row", common::OFTEN, LIMIT, async || {
        let calls = load.completed_calls();
        let since: Vec<&Call> = calls.iter().filter(|call| call.started > killed).collect();
        // The last failure, or answer of the dead one, and how many calls have been well since.
        let streak = since
            .iter()
            .rev()
            .take_while(|call| {
                call.result.is_ok() && !call.answered_by(container_hostname(&killed_backend.id))
            })
            .count();
        if streak >= 50 { Ok(()) } else { Err(streak) }
    })
    .await;
    let calls = load.stop().await;
    let tally: Tally = calls.iter().collect();
    recovered.unwrap_or_else(|error| panic!("{error}: {:?}", tally.first_failure));
    // A call can fail until the control plane has received Docker's event and removed the endpoint, which takes far
    // less than a second. The limit leaves room for a loaded machine.
    let last_failure = calls.iter().filter(|call| call.result.is_err()).map(Call::ended).max();
    let recovery_time = last_failure.map(|at| at.saturating_duration_since(killed));
    assert!(recovery_time.is_none_or(|duration| duration < Duration::from_secs(30)), "{recovery_time:?}");

    let after: Tally = caller(&stack).calls(60, 4).await.iter().collect();
    assert_eq!(after.failed(), 0, "{:?}", after.first_failure);
    let answered: BTreeSet<&str> = after.shares.iter().map(|(name, _)| name).collect();
    assert_eq!(
        answered,
        remaining.iter().map(|backend| container_hostname(&backend.id)).collect(),
        "only those that live"
    );
    life.shut_down(LIMIT).await.unwrap();
    assert_eq!(stack.down().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker"]
async fn scaling_up_and_down_fails_no_call() {
    let stack = plan().up().await.unwrap();
    let life = Lifecycle::default();
    let load = Load::start(caller(&stack), 100, &life);
    for replicas in [5, 2] {
        let scale = format!("backend={replicas}");
        let up =
            ["up", "--detach", "--wait", "--no-build", "--no-recreate", "--pull", "never", "--scale", &scale];
        stack.run(&up).await.unwrap();
        wait_for_endpoints(&stack, replicas).await;
        let tally: Tally = caller(&stack).calls(100, 4).await.iter().collect();
        assert_eq!(tally.failed(), 0, "{:?}", tally.first_failure);
        assert_eq!(tally.shares.iter().count(), replicas, "{}", tally.shares);
    }
    let tally: Tally = load.stop().await.iter().collect();
    assert_eq!(tally.failed(), 0, "{:?}\n{}", tally.first_failure, stack.logs().await);
    assert!(tally.shares.iter().count() >= 5, "{}", tally.shares);
    life.shut_down(LIMIT).await.unwrap();
    assert_eq!(stack.down().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker"]
async fn two_stacks_run_in_parallel_and_a_dropped_one_is_removed() {
    let plan = plan();
    let (one, two) = tokio::join!(plan.up(), plan.up());
    let (one, two) = (one.unwrap(), two.unwrap());
    for stack in [&one, &two] {
        let tally: Tally = caller(stack).calls(10, 1).await.iter().collect();
        assert_eq!(tally.failed(), 0, "{:?}", tally.first_failure);
    }
    let container = one.containers("envoy").await.unwrap().remove(0);
    drop(one);
    let tally: Tally = caller(&two).calls(10, 1).await.iter().collect();
    assert_eq!(tally.failed(), 0, "{:?}", tally.first_failure);
    let inspection = std::process::Command::new("docker").args(["inspect", &container.id]).output().unwrap();
    assert!(!inspection.status.success(), "{inspection:?}");
    assert_eq!(two.down().await.unwrap(), []);
}
