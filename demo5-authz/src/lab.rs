//! The exercises of this demo, each with the function that judges it by what a real Envoy and the real authorizer do.
//!
//! The tasks stand in `lab/`; how a check works is told in [`mesh_lab`].

use std::path::PathBuf;

use mesh_lab::{Exercise, Lab};

mod environment;

mod role;

mod closed;

mod replay;

mod forged;

/// The exercises, from easy to hard.
pub fn lab() -> Lab {
    Lab {
        demo: "demo5-authz",
        command: "cargo run -p demo5-authz --",
        folder: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/lab")),
        exercises: vec![
            Exercise { folder: "01-role", check: |context| Box::pin(role::check(context)) },
            Exercise { folder: "02-closed", check: |context| Box::pin(closed::check(context)) },
            Exercise { folder: "03-replay", check: |context| Box::pin(replay::check(context)) },
            Exercise { folder: "04-forged", check: |context| Box::pin(forged::check(context)) },
        ],
    }
}
