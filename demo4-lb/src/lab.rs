//! The exercises of this demo, each with the function that judges it by what a real Envoy does.
//!
//! The tasks stand in `lab/`; how a check works is told in [`mesh_lab`].

use std::path::PathBuf;

use mesh_lab::{Exercise, Lab};

mod environment;

mod localities;

mod failover;

mod weights;

mod nack;

mod feedback;

/// The exercises, from easy to hard.
pub fn lab() -> Lab {
    Lab {
        demo: "demo4-lb",
        command: "cargo run -p demo4-lb --",
        folder: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/lab")),
        exercises: vec![
            Exercise { folder: "01-localities", check: |context| Box::pin(localities::check(context)) },
            Exercise { folder: "02-failover", check: |context| Box::pin(failover::check(context)) },
            Exercise { folder: "03-weights", check: |context| Box::pin(weights::check(context)) },
            Exercise { folder: "04-nack", check: |context| Box::pin(nack::check(context)) },
            Exercise { folder: "05-feedback", check: |context| Box::pin(feedback::check(context)) },
        ],
    }
}
