//! All roles at once, with an Envoy between them. Does not know what each role does by itself.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use demo5_authz::client::{Call, Caller, Protocol, Wish};
use demo5_authz::topology::{AUTHZ, Authorizers, Door, FRONT, World, loopback};
use shared::envoy::Envoy;
use shared::lifecycle::{GRACE, Lifecycle};

use super::authz::Authz;
use super::common::LIMIT;
use super::hostile::hostile_callers;
use super::{BACKEND, CLIENT, command, make, run, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_work_together_through_an_envoy_and_a_killed_authorizer_lets_nobody_through() {
    let mut authz = Authz::start(&[]);
    let mut backend =
        command(BACKEND).args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(backend.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let life = Lifecycle::default();
    let world = World {
        admin: loopback(0),
        doors: vec![Door::new(FRONT, AUTHZ)],
        authorizers: vec![Authorizers {
            cluster: AUTHZ.into(),
            addresses: vec![authz.address],
            health_checks: true,
        }],
        backend: line.trim().rsplit(' ').next().unwrap().parse().unwrap(),
        tls: None,
    };
    let program = shared::tools::envoy(None).await.unwrap();
    let envoy = Envoy::new(&program.path, world.to_yaml().unwrap()).start(&life).await.unwrap();
    let envoy = envoy.ready(LIMIT).await.unwrap();
    let front = envoy.admin().listeners().await.unwrap()[0].address;

    let token = make(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
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
    let shown = text(&run(CLIENT, &["--target", &target]).stdout);
    assert!(shown.contains("UNAUTHENTICATED") && shown.contains("401"), "{shown}");

    let caller = Caller::plain(front).unwrap();
    hostile_callers(&caller, &token).await;

    authz.child.kill().unwrap();
    authz.child.wait().unwrap();
    for protocol in Protocol::ALL {
        for _ in 0..10 {
            let seen = caller.call(protocol, &Call::new(Wish::Hello).token(&token)).await.unwrap();
            assert!(!seen.passed() && ["UNAVAILABLE", "503"].contains(&seen.status.as_str()), "{seen}");
        }
        assert!(caller.call(protocol, &Call::new(Wish::Public)).await.unwrap().passed());
    }
    let nobody = run(CLIENT, &["--target", "127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    assert!(text(&nobody.stderr).contains("Is Envoy up?"), "{nobody:?}");
    backend.kill().unwrap();
    backend.wait().unwrap();
    envoy.stop().await;
    life.shut_down(GRACE + Duration::from_secs(1)).await.unwrap();
}
