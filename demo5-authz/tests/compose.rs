//! The demo in containers: what compose.yaml promises, held to it without a Docker, and run on a real one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{LIMIT, OFTEN, file};
use demo5_authz::client::{Call, Caller, Operation, Protocol};
use demo5_authz::topology::{self, EnvoyTopology, ListenerSpec, loopback};
use mesh_testkit::compose::{Plan, Stack};
use serde_json::{Value, json};
use shared::poll::wait_until;
use shared::ports::{DEMO5_ADMIN, DEMO5_AUTHZ, DEMO5_BACKEND, DEMO5_ENVOY, DEMO5_METRICS};
use shared::tools;

fn compose() -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(file("compose.yaml")).unwrap()).unwrap()
}

#[test]
fn only_lab_ports_are_published_and_only_on_loopback() {
    let mut published = Vec::new();
    for (_, service) in compose()["services"].as_object().unwrap() {
        let ports = service["ports"].as_array().into_iter().flatten();
        published.extend(ports.map(|port| port.as_str().unwrap().to_owned()));
    }
    published.sort();
    assert_eq!(
        published,
        [
            format!("127.0.0.1:${{DEMO5_ADMIN_PORT:-{DEMO5_ADMIN}}}:9901"),
            format!("127.0.0.1:${{DEMO5_METRICS_PORT:-{DEMO5_METRICS}}}:{DEMO5_METRICS}"),
            format!("127.0.0.1:${{DEMO5_PORT:-{DEMO5_ENVOY}}}:{DEMO5_ENVOY}"),
        ]
    );
}

#[test]
fn addresses_and_ports_are_consistent_across_files() {
    let services = compose()["services"].take();
    assert_eq!(services["authz"]["environment"]["LISTEN"], format!("0.0.0.0:{DEMO5_AUTHZ}"));
    assert_eq!(services["authz"]["environment"]["METRICS"], format!("0.0.0.0:{DEMO5_METRICS}"));
    assert_eq!(services["backend"]["environment"]["LISTEN"], format!("0.0.0.0:{DEMO5_BACKEND}"));
    assert_eq!(services["client"]["environment"]["TARGET"], format!("envoy:{DEMO5_ENVOY}"));
    let envoy = topology::parse_config().unwrap();
    let statics = &envoy["static_resources"];
    assert_eq!(statics["listeners"][0]["address"]["socket_address"]["port_value"], DEMO5_ENVOY);
    for (cluster, (name, port)) in
        [("backend", DEMO5_BACKEND), ("authz", DEMO5_AUTHZ)].into_iter().enumerate()
    {
        let cluster = &statics["clusters"][cluster];
        let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
        assert_eq!(endpoint["address"]["socket_address"], json!({ "address": name, "port_value": port }));
        assert!(services[name].is_object(), "{name}");
    }
}

#[test]
fn every_container_is_sandboxed_and_has_resource_limits() {
    for (name, service) in compose()["services"].as_object().unwrap() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_u64(), "{name}");
        let user = service["user"].as_str().unwrap();
        assert!(!user.starts_with('0') && user != "root", "{name} runs as {user}");
        for forbidden in ["privileged", "cap_add", "pid", "container_name"] {
            assert!(service.get(forbidden).is_none(), "{name}: {forbidden}");
        }
        // The one that makes keys writes into one folder of its user, and has no network to send them over.
        for volume in service["volumes"].as_array().into_iter().flatten() {
            assert!(name == "token" || volume.as_str().unwrap().ends_with(":ro"), "{name}: {volume}");
        }
        assert_eq!(service.get("network_mode").is_some(), name == "token", "{name}");
        // The private key is in no container but that one.
        let mounts = service["volumes"].to_string();
        assert!(name == "token" || !mounts.contains("keys}:"), "{name}: {mounts}");
        assert!(service.get("profiles").is_some() || service["healthcheck"]["test"].is_array(), "{name}");
    }
}

#[test]
fn the_front_listener_equals_the_one_of_the_containers() {
    let topology_of_run = EnvoyTopology {
        admin: loopback(0),
        listeners: vec![ListenerSpec::new(topology::FRONT_LISTENER, topology::AUTHZ_CLUSTER)],
        authorizers: Vec::new(),
        backend: loopback(1),
        tls: None,
    };
    let output: Value = serde_json::from_str(&topology_of_run.to_yaml().unwrap()).unwrap();
    let filter = |config: &Value| {
        config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"].clone()
    };
    let (mut ours, theirs) = (filter(&output), filter(&topology::parse_config().unwrap()));
    // Statistics under the door's name are all that is added.
    let added = ours["http_filters"][0]["typed_config"].as_object_mut().unwrap().remove("stat_prefix");
    assert_eq!(added, Some(json!("front")));
    assert_eq!(ours, theirs);
    let timeout = theirs["http_filters"][0]["typed_config"]["grpc_service"]["timeout"].clone();
    assert_eq!(timeout, format!("{}s", topology::EXT_AUTHZ_TIMEOUT.as_secs_f64()));
}

#[tokio::test]
async fn envoy_accepts_its_configuration() {
    let envoy = tools::envoy(None).await.unwrap();
    let mut command = tokio::process::Command::new(&envoy.path);
    command.args(["--mode", "validate", "--config-path"]).arg(file("envoy/envoy.yaml"));
    let validated = shared::child::output(command, Duration::from_secs(60)).await.unwrap();
    assert!(validated.status.success(), "{validated:?}");
}

/// What the client in the stack gets: statuses by what is wanted.
async fn statuses_in_stack(stack: &Stack, operation: &str) -> Vec<String> {
    let output =
        stack.run(&["run", "--rm", "-T", "client", "--json", "--operation", operation]).await.unwrap();
    let status =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["status"].as_str().unwrap().to_owned();
    output.lines().map(status).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker"]
async fn without_an_authorizer_calls_fail_and_they_recover_when_it_starts() {
    let keys = tempfile::tempdir().unwrap();
    let folder = keys.path().to_str().unwrap();
    let token_program = env!("CARGO_BIN_EXE_demo5-token");
    let output =
        std::process::Command::new(token_program).args(["keygen", "--out", folder]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let key = keys.path().join("signing-key.pem");
    let issue = |role: &str| {
        let mut command = std::process::Command::new(token_program);
        command.args(["issue", "--sub", "rita", "--role", role, "--key"]).arg(&key);
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let (reader, admin) = (issue("reader"), issue("admin"));
    let names = ["demo5-authz-server", "demo5-backend", "demo5-client", "demo5-token"];
    let plan = Plan {
        file: file("compose.yaml"),
        programs: names.map(|name| Path::new(token_program).with_file_name(name)).to_vec(),
        ports: ["DEMO5_PORT", "DEMO5_ADMIN_PORT", "DEMO5_METRICS_PORT"].map(Into::into).to_vec(),
    };
    let stack = plan.up_with(&[("DEMO5_KEYS", folder)]).await.unwrap();
    let caller = Caller::plain(loopback(stack.port("DEMO5_PORT"))).unwrap();
    let status = async |protocol, operation, token: &str| {
        let mut call = Call::new(operation);
        call.token = (!token.is_empty()).then_some(token);
        caller.call(protocol, &call).await.unwrap().status
    };
    for (operation, token, grpc, http) in [
        (Operation::Hello, "", "UNAUTHENTICATED", "401"),
        (Operation::Hello, &reader[..], "OK", "200"),
        (Operation::Delete, &reader, "PERMISSION_DENIED", "403"),
        (Operation::Delete, &admin, "OK", "200"),
        (Operation::Public, "", "OK", "200"),
    ] {
        assert_eq!(status(Protocol::Grpc, operation, token).await, grpc, "{operation:?}");
        assert_eq!(status(Protocol::Http, operation, token).await, http, "{operation:?}");
    }
    assert_eq!(statuses_in_stack(&stack, "hello").await, ["UNAUTHENTICATED", "401"]);
    assert_eq!(statuses_in_stack(&stack, "public").await, ["OK", "200"]);
    let metrics = Caller::plain(loopback(stack.port("DEMO5_METRICS_PORT"))).unwrap();
    let page = metrics
        .http(http::Method::GET, "/metrics", http::HeaderMap::new(), bytes::Bytes::new())
        .await
        .unwrap();
    assert!(page.message.contains("authz_allowed_total 4"), "{}", page.message);
    // The decision log, where containers log.
    let log = stack.run(&["logs", "--no-color", "--no-log-prefix", "authz"]).await.unwrap();
    let allowed = log.lines().filter(|line| line.contains("\"decision\":\"allow\"")).count();
    assert_eq!(allowed, 4, "{log}");
    assert!(!log.contains("eyJ"), "{log}");

    // `docker run_docker`, and nobody passes, with whatever token.
    let container = stack.containers("authz").await.unwrap().remove(0);
    let run_docker = |action: &str| {
        let stopped = std::process::Command::new("docker").args([action, &container.id]).output().unwrap();
        assert!(stopped.status.success(), "{stopped:?}");
    };
    run_docker("stop");
    for _ in 0..20 {
        assert_eq!(status(Protocol::Grpc, Operation::Hello, &reader).await, "UNAVAILABLE");
        assert_eq!(status(Protocol::Http, Operation::Delete, &admin).await, "503");
    }
    assert_eq!(status(Protocol::Http, Operation::Public, "").await, "200", "nobody is asked there");
    run_docker("start");
    let recovered = async || match status(Protocol::Grpc, Operation::Hello, &reader).await {
        status if status == "OK" => Ok(()),
        status => Err(status),
    };
    wait_until("calls to pass again", OFTEN, LIMIT, recovered).await.unwrap();
    assert_eq!(status(Protocol::Http, Operation::Delete, &reader).await, "403");
    assert_eq!(stack.down().await.unwrap(), []);
}
