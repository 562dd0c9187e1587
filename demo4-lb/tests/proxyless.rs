//! Clients without a proxy: ours on tonic-xds, and a foreign one, the gRPC library for Python.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
use std::fs;

use common::{CLIENT, Role, run};
use demo4_lb::caller::Caller;
use mesh_testkit::grpcio::Client;
use serde_json::Value;
use shared::stats::Shares;

/// Two backends in the east, one in the west; the file of endpoints for them.
fn backends_with_weights() -> (Vec<Role>, String) {
    let names = [("east-1", "east"), ("east-2", "east"), ("west-1", "west")];
    let roles: Vec<Role> = names
        .iter()
        .map(|(name, locality)| Role::backend(&["--name", name, "--locality", locality]))
        .collect();
    let weights = [4, 4, 2];
    let lines = roles.iter().zip(names).zip(weights).map(|((role, (_, locality)), weight)| {
        format!("  - {{ address: {}, locality: {locality}, weight: {weight} }}\n", role.address)
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
fn the_proxyless_client_needs_only_the_control_plane() {
    let backends = [Role::backend(&["--name", "a"]), Role::backend(&["--name", "b"])];
    let endpoints = format!("static:{},{}", backends[0].address, backends[1].address);
    let control_plane = control_plane(&endpoints, &[]);
    let address = control_plane.address.to_string();
    let output =
        run(CLIENT, &["--target", "xds:///echo", "--control-plane", &address, "--count", "60", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["answered"].as_object().unwrap().len(), 2, "{seen}");
}

#[test]
fn without_a_control_plane_calls_fail_by_their_deadline_with_the_next_step() {
    let args = ["--target", "xds:///echo", "--control-plane", "127.0.0.1:9", "--count", "2"];
    let output = run(CLIENT, &args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr_text = common::stderr(&output);
    for expected in ["2 of 2 calls to xds:///echo", "DeadlineExceeded", "127.0.0.1:9", "--xds-log"] {
        assert!(stderr_text.contains(expected), "{expected} is not in {stderr_text}");
    }
}

#[tokio::test]
async fn route_weights_apply_to_the_grpc_c_core_client() {
    let (_backends, text) = backends_with_weights();
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
async fn locality_weights_apply_to_the_grpc_c_core_client() {
    let (_backends, text) = backends_with_weights();
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

/// Calls until many answers in a row are by these, and each has answered.
async fn wait_for_backends(caller: &Caller, names: &[&str]) {
    let mut streak: Vec<String> = Vec::new();
    let mut last = None;
    let calling = async {
        while streak.len() < 60 || !names.iter().all(|name| streak.iter().any(|one| one == name)) {
            let answer = caller.call().await.result;
            match &answer {
                Ok(name) if names.contains(&name.as_str()) => streak.push(name.clone()),
                _ => streak.clear(),
            }
            last = Some(answer);
        }
    };
    let result = tokio::time::timeout(common::LIMIT, calling).await;
    assert!(result.is_ok(), "not called: {names:?}; the last call: {last:?}");
}

#[tokio::test]
async fn a_region_recovers_with_a_new_backend_after_losing_its_last_one() {
    let backend = |name: &'static str| Role::backend(&["--name", name]);
    let (east, west) = (backend("east"), backend("west"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backends.yaml");
    let save = |localities: &[(&str, &Role)]| {
        let line = |(locality, role): &(&str, &Role)| {
            format!("  - {{ address: {}, locality: {locality} }}\n", role.address)
        };
        let text = format!("endpoints:\n{}", localities.iter().map(line).collect::<String>());
        fs::write(file.with_extension("new"), text).unwrap();
        fs::rename(file.with_extension("new"), &file).unwrap();
    };
    save(&[("east", &east), ("west", &west)]);
    let control_plane = control_plane(&format!("file:{}", file.display()), &["--split", "routes"]);
    let caller = Caller::proxyless(control_plane.address, "echo").unwrap();
    wait_for_backends(&caller, &["east", "west"]).await;
    save(&[("east", &east)]);
    wait_for_backends(&caller, &["east"]).await;
    drop(west);
    let another = backend("another");
    save(&[("east", &east), ("west", &another)]);
    wait_for_backends(&caller, &["east", "another"]).await;
}
