//! No import cycle inside a crate: if a file uses what another one defines, the other one must not use the first.
//!
//! Files without cycles can be read one after the other. A module that only declares its children and re-exports
//! what they define does not use them, so a child may use what its parent defines.

mod graph;
mod modules;
mod samples;
mod tokens;

use std::collections::BTreeSet;
use std::path::Path;

use graph::Arrows;
use mesh_testkit::workspace::{Member, members};

/// Cycles that are still allowed: the crate, and the files of one cycle. An entry is removed with its cycle.
const KNOWN: &[(&str, &[&str])] = &[
    ("shared", &["src/bin/reuseport/story.rs", "src/bin/reuseport/story/sharing.rs"]),
    ("shared", &["src/tools.rs", "src/tools/verify.rs"]),
    (
        "mesh-pki",
        &["src/bin/pki/chain.rs", "src/bin/pki/main.rs", "src/bin/pki/show.rs", "src/bin/pki/trust.rs"],
    ),
    (
        "mesh-xds",
        &[
            "src/cache.rs",
            "src/cache/group.rs",
            "src/delta.rs",
            "src/frame.rs",
            "src/order.rs",
            "src/snapshot.rs",
            "src/sotw.rs",
            "src/stream.rs",
            "src/track.rs",
            "src/track/answer.rs",
        ],
    ),
    ("mesh-xds", &["src/dialogue.rs", "src/dialogue/clients.rs"]),
    (
        "mesh-xds",
        &["src/reference.rs", "src/reference/filter.rs", "src/reference/socket.rs", "src/resource.rs"],
    ),
    (
        "mesh-xds",
        &["src/server.rs", "src/server/conversation.rs", "src/server/request.rs", "src/server/service.rs"],
    ),
    ("mesh-xds-server", &["src/lib.rs", "src/look.rs", "src/parse.rs"]),
    ("mesh-lab", &["src/bench.rs", "src/examine.rs", "src/lib.rs"]),
    ("demo1-metrics", &["src/prometheus.rs", "src/prometheus/api.rs", "src/prometheus/find.rs"]),
    ("demo1-metrics", &["src/scenario.rs", "src/scenario/mesh.rs"]),
    (
        "demo2-bpf",
        &["src/lab.rs", "src/lab/accept.rs", "src/lab/lifetimes.rs", "src/lab/slow.rs", "src/lab/watch.rs"],
    ),
    ("demo2-bpf", &["src/scenario.rs", "src/watch.rs"]),
    ("demo2-bpf", &["src/target.rs", "src/target/ours.rs", "src/target/running.rs"]),
    (
        "demo4-lb",
        &[
            "src/discovery.rs",
            "src/discovery/dns.rs",
            "src/discovery/docker.rs",
            "src/discovery/docker/container.rs",
            "src/discovery/file.rs",
        ],
    ),
    ("demo4-lb", &["src/scenario.rs", "src/scenario/lane.rs", "src/scenario/mesh.rs"]),
    ("demo5-authz", &["src/authorizer.rs", "src/decision_log.rs"]),
    ("demo5-authz", &["src/cache.rs", "src/token.rs"]),
    ("demo5-authz", &["src/scenario.rs", "src/scenario/mesh.rs"]),
];

/// The files of one cycle, below the crate's folder.
type Cycle = BTreeSet<String>;

fn crate_arrows(member: &Member) -> Vec<Arrows> {
    let read = |file: &Path| std::fs::read_to_string(file).ok();
    let targets = member.roots().map(|root| graph::arrows(&modules::load(root, &read)));
    targets.filter(|arrows| !arrows.is_empty()).collect()
}

/// Compares the cycles of one crate with the cycles in `KNOWN`.
fn compare(found: &BTreeSet<Cycle>, known: &BTreeSet<Cycle>) -> Vec<String> {
    let new = found.difference(known).map(|cycle| format!("new cycle {cycle:?}"));
    let gone =
        known.difference(found).map(|cycle| format!("no longer a cycle, remove it from KNOWN: {cycle:?}"));
    new.chain(gone).collect()
}

#[test]
fn files_of_a_crate_do_not_use_each_other_in_a_circle() {
    let members = members().unwrap();
    let mut findings = Vec::new();
    let mut files = 0;
    for member in &members {
        let below = |file: &Path| file.strip_prefix(member.folder()).unwrap_or(file).display().to_string();
        let mut found = BTreeSet::new();
        for arrows in crate_arrows(member) {
            files += arrows.len();
            for cycle in graph::cycles(&arrows) {
                println!(
                    "{}: {}",
                    member.name,
                    cycle.iter().map(|file| below(file)).collect::<Vec<_>>().join(", ")
                );
                for ((from, to), names) in &arrows {
                    if cycle.contains(from.as_path()) && cycle.contains(to.as_path()) {
                        println!("    {} uses {names:?} of {}", below(from), below(to));
                    }
                }
                found.insert(cycle.iter().map(|file| below(file)).collect::<Cycle>());
            }
        }
        let of_crate = KNOWN.iter().filter(|(name, _)| *name == member.name);
        let known =
            of_crate.map(|(_, files)| files.iter().map(|file| (*file).to_owned()).collect()).collect();
        findings
            .extend(compare(&found, &known).into_iter().map(|finding| format!("{}: {finding}", member.name)));
    }
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let gone = KNOWN.iter().filter(|(name, _)| !names.contains(name));
    findings.extend(gone.map(|(name, _)| format!("{name} is in KNOWN, but not a crate of this workspace")));
    assert!(files > 100, "only {files} uses between files found: are the sources read?");
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
