//! Exercise 1: which worker accepts how many connections?

use std::collections::BTreeMap;
use std::path::Path;

use mesh_lab::{CheckContext, Requirement};

use super::watch::{all_ended, can_watch, watch};
use crate::target::Source;
use crate::trace::Trace;
use crate::{witness, workload};

const FILE: &str = "accept.bt";

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    can_watch().await?;
    let program = bench.envoy_program().await?;
    let (ours, other) = tokio::try_join!(
        Source::Process.target(Some(&program), false, &bench.life),
        Source::Process.target(Some(&program), false, &bench.life)
    )?;
    let watching = watch(bench, FILE, &[ours.pid.to_string()]).await?;
    let before = witness::counted(&ours.admin).await?;
    let (connections, elsewhere) = (bench.rng.number(15..=30), bench.rng.number(5..=14));
    for _ in 0..connections {
        workload::once(ours.call).await?;
    }
    for _ in 0..elsewhere {
        workload::once(other.call).await?;
    }
    all_ended(&ours.admin).await?;
    let counted = witness::counted(&ours.admin).await?.since(&before);
    let trace = watching.maps().await?;

    let accepted = trace.maps.get("accepted").ok_or_else(|| no_map(&trace))?;
    let mine = |key: &String| Path::new(&format!("/proc/{}/task/{key}", ours.pid)).exists();
    let workers = witness::workers(ours.pid);
    let known = workers.keys().any(|tid| accepted.contains_key(&tid.to_string()));
    let advice = if accepted.contains_key("") {
        "It is a single number. A map with a key counts apart: @accepted[KEY]."
    } else if accepted.contains_key(&ours.pid.to_string()) {
        "`pid` is the process, which all workers are part of. A thread has a number of its own."
    } else {
        "The key has to be the number of the thread that accepts."
    };
    bench.require(
        "@accepted counts by thread",
        format!("those of the workers, {}", list(workers.keys())),
        format!(
            "@accepted has the keys {}",
            list(accepted.keys().map(|key| if key.is_empty() { "(none)" } else { key }))
        ),
        known,
        advice,
    );
    let by_worker = |tid: u32| accepted.get(&tid.to_string()).copied().unwrap_or(0);
    let seen: BTreeMap<u32, i64> = workers.iter().map(|(tid, number)| (*number, by_worker(*tid))).collect();
    let told = |counts: Vec<(u32, i64)>| {
        let counts = counts.iter().map(|(worker, count)| format!("worker {worker} {count}"));
        counts.collect::<Vec<_>>().join(", ")
    };
    let expected: Vec<(u32, i64)> = workers
        .values()
        .map(|number| (*number, counted.by_worker.get(number).map_or(0, |count| *count as i64)))
        .collect();
    let sum: i64 = seen.values().sum();
    let seen = told(seen.into_iter().collect());
    let mut sorted = expected;
    sorted.sort_unstable();
    let expected = told(sorted);
    bench.require(
        "each worker accepted what Envoy says that it did",
        &expected,
        format!("Of {connections} connections your program counts {seen}"),
        seen == expected,
        if sum > i64::from(connections) {
            "It counts more than there were. A worker accepts until nothing is left, so its last call is in vain: it \
             returns an error, a number below 0. Only the call's end knows what it returns."
        } else {
            "Connections are missing. Which calls are left out, and why?"
        },
    );
    let foreign = accepted.keys().filter(|key| !key.is_empty() && !mine(key)).count();
    bench.require(
        "only this Envoy is counted",
        "0",
        format!("{foreign} keys of @accepted are threads of other processes"),
        foreign == 0,
        "Another Envoy runs on this machine, whose threads have the same names. The number of the one to watch is $1.",
    );
    Ok(())
}

fn no_map(trace: &Trace) -> Requirement {
    let maps =
        list(trace.maps.keys().filter(|name| !name.starts_with("lab_")).map(|name| format!("@{name}")));
    let seen = format!("The program left {}", if maps.is_empty() { "no map" } else { &maps });
    Requirement::unmet(
        "there is a map @accepted",
        "@accepted",
        seen,
        "An empty map is not printed: did the probe ever fire?",
    )
}

fn list(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
