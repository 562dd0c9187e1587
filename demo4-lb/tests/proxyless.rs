//! Clients without a proxy: ours on tonic-xds, and a foreign one, the gRPC library for Python.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "../../shared/tests/common/grpcio.rs"]
mod grpcio;

use std::fs;

use common::{CLIENT, Role, run};
use grpcio::Client;
use serde_json::Value;
use shared::stats::Shares;

/// Two backends in the east, one in the west; the file of endpoints for them.
fn world() -> (Vec<Role>, String) {
    let names = [("east-1", "east"), ("east-2", "east"), ("west-1", "west")];
    let roles: Vec<Role> =
        names.iter().map(|(name, place)| Role::backend(&["--name", name, "--locality", place])).collect();
    let weights = [4, 4, 2];
    let lines = roles.iter().zip(names).zip(weights).map(|((role, (_, place)), weight)| {
        format!("  - {{ address: {}, locality: {place}, weight: {weight} }}\n", role.address)
    });
    let text = format!("endpoints:\n{}", lines.collect::<String>());
    (roles, text)
}

fn control_plane(endpoints: &str, more: &[&str]) -> Role {
    let mut args = vec!["--listen", "127.0.0.1:0", "--envoy-listen", "127.0.0.1:0", "--endpoints", endpoints];
    args.extend(more);
    Role::control_plane(&args)
}

fn regions(answered: impl IntoIterator<Item = (String, usize)>) -> Shares {
    let mut shares = Shares::default();
    for (name, calls) in answered {
        (0..calls).for_each(|_| shares.count(name.split('-').next().unwrap()));
    }
    shares
}

#[test]
fn a_client_of_ours_calls_by_the_control_planes_word_alone() {
    let backends = [Role::backend(&["--name", "a"]), Role::backend(&["--name", "b"])];
    let endpoints = format!("static:{},{}", backends[0].address, backends[1].address);
    let control_plane = control_plane(&endpoints, &[]);
    let at = control_plane.address.to_string();
    let output = run(CLIENT, &["--target", "xds:///echo", "--control-plane", &at, "--count", "60", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["answered"].as_object().unwrap().len(), 2, "{seen}");
}

#[test]
fn without_a_control_plane_its_calls_fail_in_time_and_the_next_step_is_named() {
    let args = ["--target", "xds:///echo", "--control-plane", "127.0.0.1:9", "--count", "2"];
    let output = run(CLIENT, &args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = common::stderr(&output);
    for words in ["2 of 2 calls to xds:///echo", "DeadlineExceeded", "127.0.0.1:9", "--dialogue"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
}

#[tokio::test]
async fn weights_in_the_route_hold_for_a_foreign_client_too() {
    let (_backends, text) = world();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backends.yaml");
    fs::write(&file, text).unwrap();
    let control_plane = control_plane(&format!("file:{}", file.display()), &["--split", "routes"]);
    let mut client = Client::start("xds:///echo", control_plane.address).await;
    // The first calls make the connections.
    client.calls(50).await;
    let seen = regions(client.calls(600).await);
    let fit = seen.fit([("east", 80.0), ("west", 20.0)]);
    assert!(fit.holds(), "{seen}: {fit}");
    client.end().await;
}

#[tokio::test]
async fn locality_weights_hold_for_the_foreign_client() {
    let (_backends, text) = world();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backends.yaml");
    fs::write(&file, text).unwrap();
    let control_plane = control_plane(&format!("file:{}", file.display()), &[]);
    let mut client = Client::start("xds:///echo", control_plane.address).await;
    client.calls(50).await;
    let seen = regions(client.calls(600).await);
    let fit = seen.fit([("east", 80.0), ("west", 20.0)]);
    assert!(fit.holds(), "{seen}: {fit}");
    client.end().await;
}
