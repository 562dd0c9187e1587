//! The exercises of this demo, each with the function that judges it by what a real Envoy and a real Prometheus do.
//!
//! The tasks stand in `lab/`; how a check works is told in [`mesh_lab`].

use std::path::PathBuf;

use mesh_lab::{Exercise, Lab};

mod mesh;

mod ratio;

mod p99;

mod budget;

mod alert;

mod restart;

/// The exercises, from easy to hard.
pub fn lab() -> Lab {
    Lab {
        demo: "demo1-metrics",
        command: "cargo run -p demo1-metrics --",
        folder: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/lab")),
        exercises: vec![
            Exercise { folder: "01-ratio", check: |bench| Box::pin(ratio::check(bench)) },
            Exercise { folder: "02-p99", check: |bench| Box::pin(p99::check(bench)) },
            Exercise { folder: "03-budget", check: |bench| Box::pin(budget::check(bench)) },
            Exercise { folder: "04-alert", check: |bench| Box::pin(alert::check(bench)) },
            Exercise { folder: "05-restart", check: |bench| Box::pin(restart::check(bench)) },
        ],
    }
}
