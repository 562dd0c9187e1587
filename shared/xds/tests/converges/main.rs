//! Whatever happens, in whatever order: the client ends up with what it asked for, and never holds a
//! route to a cluster that it does not hold.
//!
//! Random topologies are published while a model client asks, accepts, refuses, dawdles and reconnects. It
//! keeps to the protocol and nothing more. `Client` itself checks each response: no name twice, not too
//! many unanswered, nothing again that was refused.
//!
//! ```text
//! steps.rs ── steps ──> model.rs ── what the client holds ──> checks.rs
//!                       group.rs: many of them share a cache
//! ```

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/client.rs"]
mod client;
#[path = "../common/topology.rs"]
mod topology;

mod steps;

mod model;

mod checks;

mod group;

use checks::cleaned;
use group::{behaviours, group_steps};
use mesh_xds::XdsVariant;
use mesh_xds::cache::{OnRejection, Quorum};
use model::Model;
use proptest::prelude::*;
use steps::{Manner, Step, manners, steps, variants};

fn run(variant: XdsVariant, envoy: bool, manner: Manner, steps: Vec<Step>) {
    let mut model = Model::new(variant, envoy, manner);
    for step in steps {
        model.step(step);
    }
    // Unnoticed publications are superseded, as a watch does it.
    let topology = model.topology.clone();
    model.publish(topology);
    model.ack_all();
    if manner == Manner::KeepsTheRest {
        model.check_holds(false);
    }
    let topology = cleaned(model.topology.clone());
    model.publish(topology);
    model.ack_all();
    model.check_holds(true);
    assert!(matches!(model.client.stream.status(), mesh_xds::publication::SyncStatus::Synced(_)) || !envoy);
}

/// A few seconds' worth; `PROPTEST_CASES` sets another number. A failure prints the steps, so no file
/// keeps them.
fn config() -> ProptestConfig {
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    let default =
        ProptestConfig { failure_persistence: None, max_shrink_time: 30_000, ..ProptestConfig::default() };
    if given { default } else { ProptestConfig { cases: 400, ..default } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn envoy_converges_and_never_holds_a_route_to_a_missing_cluster(
        variant in variants(), manner in manners(), steps in steps()
    ) {
        run(variant, true, manner, steps);
    }

    #[test]
    fn a_client_that_subscribes_to_anything_converges(
        variant in variants(), manner in manners(), steps in steps()
    ) {
        run(variant, false, manner, steps);
    }

    #[test]
    fn every_client_of_a_group_converges(
        behaviours in behaviours(), quorum in prop::option::of(1..=3usize), steps in group_steps(true)
    ) {
        let quorum = quorum.map(|clients| OnRejection::RollBack { quorum: Quorum::Clients(clients) });
        group::run(&behaviours, quorum.unwrap_or_default(), &steps);
    }

    #[test]
    fn the_behaviour_of_one_client_changes_no_message_to_another_client(
        mut behaviours in behaviours(), manner in manners(), place in 0..3usize, steps in group_steps(false)
    ) {
        behaviours[place].rejects = None;
        let mut accepting = group::run(&behaviours, OnRejection::Keep, &steps);
        behaviours[place].rejects = Some(manner);
        let mut rejecting = group::run(&behaviours, OnRejection::Keep, &steps);
        accepting.remove(place);
        rejecting.remove(place);
        prop_assert_eq!(accepting, rejecting);
    }
}
