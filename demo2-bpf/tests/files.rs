//! The files of this demo, held to what they promise, without root and without a Docker.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use demo2_bpf::program::Program;
use demo2_bpf::target::{CONFIG, PORTS};
use serde_json::{Value, json};
use shared::ports::{DEMO2_ADMIN, DEMO2_BACKEND, DEMO2_ENVOY};

fn yaml(path: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn services() -> Vec<(String, Value)> {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().unwrap();
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

#[test]
fn lab_ports_agree_everywhere_and_are_published_on_loopback_only() {
    assert_eq!(PORTS, [DEMO2_ENVOY, DEMO2_ADMIN, DEMO2_BACKEND].map(|port| port.to_string()));
    for port in PORTS {
        assert_eq!(CONFIG.matches(&format!("port_value: {port}")).count(), 1, "{port}");
    }
    let expected = json!([
        format!("127.0.0.1:${{DEMO2_PORT:-{DEMO2_ENVOY}}}:{DEMO2_ENVOY}"),
        format!("127.0.0.1:${{DEMO2_ADMIN_PORT:-{DEMO2_ADMIN}}}:{DEMO2_ADMIN}"),
    ]);
    for (name, service) in services() {
        let ports = service.get("ports");
        assert_eq!(ports, (name == "envoy").then_some(&expected), "{name}");
    }
}

#[test]
fn the_two_envoys_differ_in_addresses_only() {
    let (exclusive, composed) = (yaml("envoy/envoy.yaml"), yaml("envoy/compose.yaml"));
    let exclusive = exclusive.to_string().replace("127.0.0.1", "ADDRESS").replace("STATIC", "TYPE");
    let composed = composed.to_string().replace("0.0.0.0", "ADDRESS").replace("STRICT_DNS", "TYPE");
    let composed = composed.replace(r#""address":"backend""#, r#""address":"ADDRESS""#);
    assert_eq!(exclusive, composed);
}

#[test]
fn every_container_is_hardened_and_only_the_tools_container_may_trace_the_kernel() {
    for (name, service) in services() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_u64(), "{name}");
        assert!(service.get("privileged").is_none(), "{name}");
        for volume in service["volumes"].as_array().into_iter().flatten() {
            assert!(volume.as_str().unwrap().ends_with(":ro"), "{name}: {volume}");
        }
        if name == "tools" {
            assert_eq!(service["cap_add"], json!(["SYS_ADMIN", "SYS_PTRACE"]));
            // It is started by hand only.
            assert_eq!(service["profiles"], json!(["tools"]));
            continue;
        }
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
        assert!(!service["user"].as_str().unwrap().starts_with('0'), "{name}");
        for refused in ["cap_add", "pid", "network_mode", "container_name"] {
            assert!(service.get(refused).is_none(), "{name}: {refused}");
        }
    }
}

#[test]
fn every_program_documents_its_question_usage_output_and_limits() {
    for program in Program::ALL {
        let (name, source) = (program.name(), program.source());
        let head = source.split("*/").next().unwrap();
        assert!(head.contains(&format!("\n * {name}.bt - ")), "{name}");
        let arguments = program.arguments(1, 2, 3, 4).len();
        let usage = head.lines().find_map(|line| line.strip_prefix(" * Usage: bpftrace ")).unwrap();
        let words = usage.split("  ").next().unwrap().split_whitespace();
        assert_eq!(words.count(), 1 + arguments, "{name}: {usage}");
        for part in ["\n * Maps", "\n * Output (", "\n * Overhead: ", "\n * Limits: "] {
            assert!(head.contains(part), "{name} without {part}");
        }
        // The two of the knock, and its own.
        assert!(program.tracepoints().len() >= 3, "{name}");
        assert!(source.contains("READY"), "{name}");
        // What bpftrace prints is as wide as it is.
        let written = source.lines().filter(|line| !line.starts_with(" *   "));
        assert!(written.map(str::len).all(|width| width <= 80), "{name}");
    }
}
