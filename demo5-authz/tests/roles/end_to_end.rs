//! All roles at once, with an Envoy between them. Does not know what each role does by itself.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use demo5_authz::client::{Call, Caller, Operation, Protocol};
use demo5_authz::topology::{
    AUTHZ_CLUSTER, AuthorizerCluster, EnvoyTopology, FRONT_LISTENER, ListenerSpec, loopback,
};
use shared::envoy::Envoy;
use shared::lifecycle::{GRACE, Lifecycle};

use super::authz::Authz;
use super::common::LIMIT;
use super::hostile::hostile_callers;
use super::{BACKEND, CLIENT, command, issue_token, run, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_work_together_and_without_an_authorizer_every_call_fails() {
    let mut authz = Authz::start(&[]);
    let mut backend =
        command(BACKEND).args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(backend.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let life = Lifecycle::default();
    let topology = EnvoyTopology {
        admin: loopback(0),
        listeners: vec![ListenerSpec::new(FRONT_LISTENER, AUTHZ_CLUSTER)],
        authorizers: vec![AuthorizerCluster {
            name: AUTHZ_CLUSTER.into(),
            addresses: vec![authz.address],
            health_checks: true,
        }],
        backend: line.trim().rsplit(' ').next().unwrap().parse().unwrap(),
        tls: None,
    };
    let program = shared::tools::envoy(None).await.unwrap();
    let envoy = Envoy::new(&program.path, topology.to_yaml().unwrap()).start(&life).await.unwrap();
    let envoy = envoy.ready(LIMIT).await.unwrap();
    let front = envoy.admin().listeners().await.unwrap()[0].address;

    let token = issue_token(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
    let token_file = authz.keys.path().join("reader.token");
    std::fs::write(&token_file, &token).unwrap();
    let target = front.to_string();
    let seen = run(CLIENT, &["--target", &target, "--token-file", token_file.to_str().unwrap(), "--json"]);
    assert!(seen.status.success(), "{seen:?}");
    let statuses: Vec<String> = text(&seen.stdout)
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["status"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(statuses, ["OK", "200", "OK", "200", "PERMISSION_DENIED", "403"]);
    assert!(!text(&seen.stdout).contains(&token) && !text(&seen.stderr).contains(&token));
    let printed = text(&run(CLIENT, &["--target", &target]).stdout);
    assert!(printed.contains("UNAUTHENTICATED") && printed.contains("401"), "{printed}");

    let caller = Caller::plain(front).unwrap();
    hostile_callers(&caller, &token).await;

    authz.child.kill().unwrap();
    authz.child.wait().unwrap();
    for protocol in Protocol::ALL {
        for _ in 0..10 {
            let seen = caller.call(protocol, &Call::new(Operation::Hello).with_token(&token)).await.unwrap();
            assert!(
                !seen.reached_backend() && ["UNAVAILABLE", "503"].contains(&seen.status.as_str()),
                "{seen}"
            );
        }
        assert!(caller.call(protocol, &Call::new(Operation::Public)).await.unwrap().reached_backend());
    }
    let unreachable = run(CLIENT, &["--target", "127.0.0.1:1"]);
    assert_eq!(unreachable.status.code(), Some(1), "{unreachable:?}");
    assert!(text(&unreachable.stderr).contains("Is Envoy up?"), "{unreachable:?}");
    backend.kill().unwrap();
    backend.wait().unwrap();
    envoy.stop().await;
    life.shut_down(GRACE + Duration::from_secs(1)).await.unwrap();
}
