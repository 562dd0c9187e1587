//! The exercises, proven.

use demo3_dynamic::lab::lab;
use mesh_lab::{SeededRng, Tools};
use shared::lifecycle::Lifecycle;

#[tokio::test(flavor = "multi_thread")]
async fn every_solution_passes_and_every_start_and_wrong_solution_fails_for_its_own_reason() {
    let (seed, life) = (SeededRng::seed(), Lifecycle::default());
    let proofs = lab().verify(None, seed, &Tools::default(), &life, |_| ()).await.unwrap();
    let unheld: Vec<_> = proofs.iter().filter(|proof| !proof.held).collect();
    assert!(unheld.is_empty(), "with seed {seed}: {unheld:#?}");
}
