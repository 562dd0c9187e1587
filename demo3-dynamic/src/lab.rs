//! The exercises of this demo, each with the function that judges it by what a real Envoy does.
//!
//! The tasks stand in `lab/`; how a check works is told in [`mesh_lab`]. In most of them the student writes resources
//! in files, which the same control plane serves that `--resources` is about.

use std::path::PathBuf;

use mesh_lab::{Exercise, Lab};

mod environment;

mod route;

mod refused;

mod rotation;

mod canary;

/// The exercises, from easy to hard.
pub fn lab() -> Lab {
    Lab {
        demo: "demo3-dynamic",
        command: "cargo run -p demo3-dynamic --",
        folder: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/lab")),
        exercises: vec![
            Exercise { folder: "01-route", check: |context| Box::pin(route::check(context)) },
            Exercise { folder: "02-refused", check: |context| Box::pin(refused::check(context)) },
            Exercise { folder: "03-rotation", check: |context| Box::pin(rotation::check(context)) },
            Exercise { folder: "04-canary", check: |context| Box::pin(canary::check(context)) },
        ],
    }
}
