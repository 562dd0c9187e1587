//! The exercises, proven.

use demo3_dynamic::lab::lab;
use mesh_lab::{SeededRng, Tools};
use shared::lifecycle::Lifecycle;

#[tokio::test(flavor = "multi_thread")]
async fn solutions_pass_and_start_and_wrong_solutions_fail_with_the_expected_message() {
    let (seed, life) = (SeededRng::seed(), Lifecycle::default());
    let proofs = lab().verify(None, seed, &Tools::default(), &life, |_| ()).await.unwrap();
    let failed: Vec<_> = proofs.iter().filter(|proof| !proof.held).collect();
    assert!(failed.is_empty(), "with seed {seed}: {failed:#?}");
}
