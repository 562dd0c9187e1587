//! The exercises of `shared`, each with the function that judges it by what real programs do.
//!
//! The tasks stand in `shared/lab/`; how a check works is told in [`mesh_lab`].

#![forbid(unsafe_code)]

mod port;

mod certificates;

mod leaf;

mod mutual;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mesh_lab::{Exercise, Lab};

/// Exercises that check themselves: one port for several servers, and certificates
#[derive(Parser)]
#[command(name = "lab", version)]
struct Expected {
    #[command(flatten)]
    lab: mesh_lab::Args,
}

/// The exercises, from easy to hard.
fn exercises() -> Lab {
    Lab {
        demo: "shared",
        // The word that follows it everywhere, `lab`, is the program's name here.
        command: "cargo run -p mesh-lab --bin",
        folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        exercises: vec![
            Exercise { folder: "01-port", check: |context| Box::pin(port::check(context)) },
            Exercise { folder: "02-leaf", check: |context| Box::pin(leaf::check(context)) },
            Exercise { folder: "03-mutual", check: |context| Box::pin(mutual::check(context)) },
        ],
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    mesh_lab::run(&exercises(), &Expected::parse().lab).await
}
