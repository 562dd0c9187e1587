//! The real Envoy, found or installed as a demo would: it starts, serves, tells, and goes.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mesh_testkit::processes::{self, wait_until_ended};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use shared::envoy::admin::{ResourceKind, ResourceState};
use shared::envoy::{Admin, AdminError, Bootstrap, Envoy, EnvoyError, EnvoyXdsVariant};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::tools::{self, Program};
use tokio::net::TcpListener;

/// Far more than Envoy needs, even while other tests take both cores.
const READY: Duration = Duration::from_secs(60);

async fn program() -> Program {
    let choice = std::env::var_os("ENVOY");
    tools::envoy(choice.as_deref().map(Path::new)).await.unwrap()
}

/// Starts a control plane that accepts connections and never sends anything.
async fn silent_control_plane() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An Envoy whose control plane says nothing: it gives up waiting for it almost at once.
fn lonely(id: &str, control_plane: SocketAddr) -> Bootstrap {
    Bootstrap::new(id, control_plane).initial_fetch_timeout(Duration::from_millis(50))
}

#[tokio::test]
async fn envoy_accepts_the_bootstrap_in_both_variants_with_and_without_load_reports() {
    let program = program().await;
    for variant in [EnvoyXdsVariant::Sotw, EnvoyXdsVariant::Delta] {
        for load_reports in [false, true] {
            let bootstrap = Bootstrap::new("node", "[::1]:18000".parse().unwrap())
                .cluster("edge")
                .variant(variant)
                .load_reports(load_reports);
            let mut command = tokio::process::Command::new(&program.path);
            command.args(["--mode", "validate", "-l", "warning", "--config-yaml", &bootstrap.to_yaml()]);
            let output = shared::child::output(command, READY).await.unwrap();
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{bootstrap:?}: {log}");
            assert!(!log.contains("deprecated"), "{log}");
        }
    }
}

#[tokio::test]
async fn two_envoys_serve_side_by_side_and_say_who_they_are() {
    let (program, life) = (program().await, Lifecycle::default());
    let (_silent, control_plane) = silent_control_plane().await;
    let start = async |id: &str| {
        let envoy = Envoy::new(&program, lonely(id, control_plane).to_yaml());
        envoy.start(&life).await.unwrap().ready(READY).await.unwrap()
    };
    let (one, two) = tokio::join!(start("one"), start("two"));
    assert_ne!(one.admin().address(), two.admin().address());
    for (serving, id) in [(&one, "one"), (&two, "two")] {
        let admin = serving.admin();
        admin.ready().await.unwrap();
        assert_eq!(admin.listeners().await.unwrap(), []);
        assert_eq!(admin.dynamic_resources().await.unwrap(), []);
        assert_eq!(admin.stats("^server.live$").await.unwrap()["server.live"], 1);
        let clusters = admin.clusters().await.unwrap();
        assert_eq!((clusters[0].name.as_str(), clusters[0].hosts[0].address), ("xds", control_plane));
        let dump = admin.config_dump().await.unwrap();
        assert_eq!(dump["configs"][0]["bootstrap"]["node"]["id"], id);
        assert!(!serving.log_tail().contains("downstream connections"), "{}", serving.log_tail());
    }
    life.shut_down(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_stopped_envoy_leaves_no_process_and_no_folder() {
    let (program, life) = (program().await, Lifecycle::default());
    let (_silent, control_plane) = silent_control_plane().await;
    let envoy = Envoy::new(&program, lonely("node", control_plane).to_yaml());
    let serving = envoy.start(&life).await.unwrap().ready(READY).await.unwrap();
    let (pid, log, admin) = (serving.pid(), serving.log(), *serving.admin());
    assert!(processes::is_running(pid));
    let folder = log.parent().unwrap().metadata().unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    let status = serving.stop().await.unwrap();
    assert!(status.success(), "Envoy ends cleanly when asked: {status}");
    wait_until_ended(pid).await;
    assert!(!log.exists());
    assert!(matches!(admin.ready().await.unwrap_err(), AdminError::Unreachable { .. }));
}

#[tokio::test]
async fn an_envoy_that_another_program_terminates_reports_its_end() {
    let (program, life) = (program().await, Lifecycle::default());
    let (_silent, control_plane) = silent_control_plane().await;
    let envoy = Envoy::new(&program, lonely("node", control_plane).to_yaml());
    let serving = envoy.start(&life).await.unwrap().ready(READY).await.unwrap();
    kill_process(Pid::from_raw(serving.pid().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert!(serving.exited().await.unwrap().success());
}

#[tokio::test]
async fn the_end_of_the_lifecycle_is_the_end_of_envoy_ready_or_not() {
    let (program, life) = (program().await, Lifecycle::default());
    let (_silent, control_plane) = silent_control_plane().await;
    let ready = Envoy::new(&program, lonely("ready", control_plane).to_yaml());
    let ready = ready.start(&life).await.unwrap().ready(READY).await.unwrap();
    let waits = Bootstrap::new("waits", control_plane).initial_fetch_timeout(Duration::ZERO);
    let waits = Envoy::new(&program, waits.to_yaml()).start(&life).await.unwrap();
    life.shut_down(GRACE).await.unwrap();
    wait_until_ended(ready.pid()).await;
    wait_until_ended(waits.pid()).await;
}

#[tokio::test]
async fn an_envoy_that_refuses_its_configuration_says_why() {
    let (program, life) = (program().await, Lifecycle::default());
    let started = Envoy::new(&program, r#"{"no_such_field": 1}"#).start(&life).await.unwrap();
    let pid = started.pid();
    let error = started.ready(READY).await.unwrap_err();
    assert!(matches!(error, EnvoyError::ExitedEarly { .. }), "{error:?}");
    assert!(error.to_string().contains("no_such_field"), "{error}");
    wait_until_ended(pid).await;
}

#[tokio::test]
async fn an_envoy_that_waits_for_its_control_plane_for_ever_is_given_up_with_its_state() {
    let (program, life) = (program().await, Lifecycle::default());
    let (_silent, control_plane) = silent_control_plane().await;
    let waits = Bootstrap::new("waits", control_plane).initial_fetch_timeout(Duration::ZERO);
    let started = Envoy::new(&program, waits.to_yaml()).start(&life).await.unwrap();
    let pid = started.pid();
    // Long enough for its admin interface to answer on a loaded machine; it is never ready.
    let error = started.ready(Duration::from_secs(20)).await.unwrap_err();
    let EnvoyError::NotReady { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(source.to_string().contains("INITIALIZING"), "{source}");
    wait_until_ended(pid).await;
}

#[tokio::test]
async fn a_program_that_only_sleeps_is_given_up_in_time() {
    let (folder, life) = (tempfile::tempdir().unwrap(), Lifecycle::default());
    let sleeper = folder.path().join("envoy");
    fs::write(&sleeper, "#!/bin/sh\nexec sleep 600\n").unwrap();
    fs::set_permissions(&sleeper, fs::Permissions::from_mode(0o755)).unwrap();
    let started = Envoy::new(&sleeper, "").start(&life).await.unwrap();
    let (pid, start) = (started.pid(), Instant::now());
    let error = started.ready(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, EnvoyError::NotReady { .. }), "{error:?}");
    assert!(start.elapsed() < READY);
    wait_until_ended(pid).await;
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let error = Envoy::new("/no/such/envoy", "").start(&Lifecycle::default()).await.unwrap_err();
    assert!(matches!(error, EnvoyError::NotStarted { .. }), "{error:?}");
    assert!(error.to_string().contains("/no/such/envoy"), "{error}");
}

/// Plays both parts: run by the test runner it starts itself again, and kills that process.
#[tokio::test]
async fn a_parent_that_is_killed_takes_its_envoy_along() {
    let (_silent, control_plane) = silent_control_plane().await;
    if let Some(report) = processes::pid_report() {
        let envoy = Envoy::new(program().await, lonely("orphan", control_plane).to_yaml());
        let serving = envoy.start(&Lifecycle::default()).await.unwrap().ready(READY).await.unwrap();
        report.send(serving.pid());
        std::future::pending::<()>().await;
    }
    // Here, and not in the second process, so that its start is not an installation.
    program().await;
    let (parent, pid) = processes::run_this_test_again("a_parent_that_is_killed_takes_its_envoy_along").await;
    assert!(processes::is_running(pid));
    parent.kill();
    wait_until_ended(pid).await;
}

/// The control plane hangs up at once, each time. Envoy's default doubles its waits up to 30 s.
#[tokio::test]
async fn a_lost_control_plane_is_tried_again_at_least_every_second() {
    let (program, life) = (program().await, Lifecycle::default());
    for variant in [EnvoyXdsVariant::Sotw, EnvoyXdsVariant::Delta] {
        let (listener, control_plane) = silent_control_plane().await;
        let bootstrap = lonely("node", control_plane).variant(variant).to_yaml();
        let envoy = Envoy::new(&program, bootstrap).start(&life).await.unwrap();
        drop(listener.accept().await.unwrap());
        let mut waits = Vec::new();
        for _ in 0..12 {
            let lost = Instant::now();
            drop(listener.accept().await.unwrap());
            waits.push(lost.elapsed());
        }
        // With Envoy's default the last six waits would be up to 30 s each, 90 s on average; a second each is 6 s.
        let last_six: Duration = waits[6..].iter().sum();
        assert!(last_six < Duration::from_secs(30), "{variant:?}: {waits:?}");
        drop(envoy);
    }
    life.shut_down(GRACE).await.unwrap();
}

/// A static configuration works too: one listener on a free port that answers by itself.
#[tokio::test]
async fn a_listener_on_port_0_is_found_by_its_name() {
    let (program, life) = (program().await, Lifecycle::default());
    let folder = tempfile::tempdir().unwrap();
    let lds = folder.path().join("lds.json");
    fs::write(&lds, listener_file("v1").to_string()).unwrap();
    let config = json!({
        "node": { "id": "static", "cluster": "test" },
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "dynamic_resources": {
            "lds_config": { "resource_api_version": "V3", "path_config_source": { "path": lds } },
        },
    });
    let envoy = Envoy::new(&program, config.to_string()).concurrency(2);
    let serving = envoy.start(&life).await.unwrap().ready(READY).await.unwrap();
    let admin = serving.admin();
    let listeners = admin.listeners().await.unwrap();
    assert_eq!(listeners.len(), 1);
    assert_eq!(listeners[0].name, "hello");
    // The listener's port speaks HTTP too, and answers 200 to anything.
    Admin::new(listeners[0].address).ready().await.unwrap();
    let answered = admin.stats(r"^http\.hello\.downstream_rq_2xx$").await.unwrap();
    assert_eq!(answered["http.hello.downstream_rq_2xx"], 1);
    let all = admin.dynamic_resources().await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(
        (all[0].kind, all[0].name.as_str(), all[0].version.as_str()),
        (ResourceKind::Listener, "hello", "v1")
    );
    assert_eq!((all[0].state, all[0].refused.as_deref()), (Some(ResourceState::Active), None));
    let error = Admin::new(admin.address()).stats("(").await.unwrap_err();
    assert!(matches!(error, AdminError::ErrorStatus { .. }), "{error:?}");
    serving.stop().await;
}

fn listener_file(version: &str) -> serde_json::Value {
    const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions.filters";
    json!({
        "version_info": version,
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
            "name": "hello",
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
            "filter_chains": [{ "filters": [{
                "name": "http",
                "typed_config": {
                    "@type": format!("{EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager"),
                    "stat_prefix": "hello",
                    "route_config": { "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }],
                    }] },
                    "http_filters": [{
                        "name": "router",
                        "typed_config": { "@type": format!("{EXTENSIONS}.http.router.v3.Router") },
                    }],
                },
            }] }],
        }],
    })
}
