//! No import cycle inside a crate: if a file uses what another one defines, the other one must not use the first.
//!
//! Files without cycles can be read one after the other. A module that only declares its children and re-exports
//! what they define does not use them, so a child may use what its parent defines.

mod graph;
mod modules;
mod samples;
mod tokens;

use std::path::Path;

use graph::Arrows;
use mesh_testkit::workspace::{Member, members};

fn crate_arrows(member: &Member) -> Vec<Arrows> {
    let read = |file: &Path| std::fs::read_to_string(file).ok();
    let targets = member.roots().map(|root| graph::arrows(&modules::load(root, &read)));
    targets.filter(|arrows| !arrows.is_empty()).collect()
}

#[test]
fn files_of_a_crate_do_not_use_each_other_in_a_circle() {
    let members = members().unwrap();
    let (mut findings, mut uses) = (Vec::new(), 0);
    for member in &members {
        let below = |file: &Path| file.strip_prefix(member.folder()).unwrap_or(file).display().to_string();
        for arrows in crate_arrows(member) {
            uses += arrows.len();
            for cycle in graph::cycles(&arrows) {
                let files: Vec<String> = cycle.iter().map(|file| below(file)).collect();
                findings.push(format!("{}: {}", member.name, files.join(", ")));
                let inside = |file: &Path| cycle.contains(file);
                for ((from, to), names) in arrows.iter().filter(|((from, to), _)| inside(from) && inside(to))
                {
                    findings.push(format!("    {} uses {names:?} of {}", below(from), below(to)));
                }
            }
        }
    }
    assert!(uses > 100, "only {uses} uses between files found: are the sources read?");
    assert!(findings.is_empty(), "import cycles:\n{}", findings.join("\n"));
}
