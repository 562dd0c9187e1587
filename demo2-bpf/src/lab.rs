//! The exercises of this demo: bpftrace programs that a student writes, run against a real Envoy under known work.
//!
//! The tasks stand in `lab/`; how a check works is told in [`mesh_lab`].

use std::path::{Path, PathBuf};

use mesh_lab::{Exercise, Lab};

mod tracing;

mod accept;

mod lifetimes;

mod slow;

/// The exercises, from easy to hard, for this bpftrace: the one of the first call.
pub fn lab(bpftrace: &Path) -> Lab {
    tracing::set_bpftrace(bpftrace);
    Lab {
        demo: "demo2-bpf",
        command: "sudo target/debug/demo2-bpf",
        folder: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/lab")),
        exercises: vec![
            Exercise { folder: "01-accept", check: |context| Box::pin(accept::check(context)) },
            Exercise { folder: "02-lifetimes", check: |context| Box::pin(lifetimes::check(context)) },
            Exercise { folder: "03-slow", check: |context| Box::pin(slow::check(context)) },
        ],
    }
}
