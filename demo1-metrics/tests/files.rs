//! The files of this demo, held to what they promise and to each other.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use demo1_metrics::dashboard::{self, Dashboard, Source};
use demo1_metrics::pictures::file_name;
use demo1_metrics::scenario::BUDGET;
use demo1_metrics::topology::{
    self, ENVOYS, EnvoyAddresses, HostPort, NEEDED_STATS, PeerAddresses, SERVICES, StatsFilter,
};
use serde_json::{Value, json};
use shared::{ports, tools};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap()
}

/// Runs a program in the demo's folder; it has to be there.
fn run(program: &str, args: &[&str]) -> Output {
    let run = Command::new(program).args(args).current_dir(file("")).output();
    run.unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
#[ignore = "needs promtool"]
fn the_alerts_pass_their_promtool_unit_tests() {
    for args in [
        &["check", "rules", "prometheus/alerts.yaml"][..],
        &["test", "rules", "prometheus/alerts.test.yaml"],
        &["check", "config", "prometheus/prometheus.yaml"],
    ] {
        let output = run("promtool", args);
        assert!(output.status.success(), "{args:?}: {}", output_text(&output));
    }
    // Each of them is tested, both ways.
    let (rules, tests) = (yaml("prometheus/alerts.yaml"), yaml("prometheus/alerts.test.yaml"));
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        let name = &rule["alert"];
        let all = tests["tests"].as_array().unwrap().iter();
        let of_it = all.flat_map(|test| test["alert_rule_test"].as_array().unwrap());
        let fires: BTreeSet<bool> = of_it
            .filter(|test| test["alertname"] == *name)
            .map(|test| !test["exp_alerts"].as_array().unwrap().is_empty())
            .collect();
        assert_eq!(fires, BTreeSet::from([false, true]), "{name}");
    }
}

/// Where everything is among containers.
fn container_addresses() -> (EnvoyAddresses, PeerAddresses) {
    let addresses = EnvoyAddresses {
        admin: HostPort::new("0.0.0.0", 9901),
        inbound: HostPort::new("0.0.0.0", 10000),
        outbound: HostPort::new("127.0.0.1", 10001),
    };
    let peers = PeerAddresses {
        inbound: SERVICES.map(|name| (name, HostPort::new(name, 10000))).into(),
        services: SERVICES.map(|name| (name, HostPort::new("127.0.0.1", 8080))).into(),
    };
    (addresses, peers)
}

#[tokio::test]
async fn container_configurations_match_the_scenario_and_envoy_accepts_them() {
    let choice = std::env::var_os("ENVOY");
    let program = tools::envoy(choice.as_deref().map(Path::new)).await.unwrap();
    for name in ENVOYS {
        let (mut addresses, peers) = container_addresses();
        if name == "front" {
            addresses.inbound.port = ports::DEMO1_FRONT;
        }
        let expected: Value =
            serde_json::from_str(&topology::envoy(name, &addresses, &peers, StatsFilter::All)).unwrap();
        let path = format!("envoy/{name}.yaml");
        assert_eq!(yaml(&path), expected, "{path} should be\n{expected}");
        let mut command = tokio::process::Command::new(&program.path);
        command.args(["--mode", "validate", "-l", "warning", "--config-path"]).arg(file(&path));
        let output = shared::child::output(command, Duration::from_secs(60)).await.unwrap();
        assert!(output.status.success(), "{path}: {}", output_text(&output));
    }
}

#[test]
fn prometheus_scrapes_every_container_by_name() {
    let config = yaml("prometheus/prometheus.yaml");
    let compose = yaml("compose.yaml");
    for (job, port, path, names) in
        [(0, 9901, "/stats/prometheus", &ENVOYS[..]), (1, 8080, "/metrics", &SERVICES)]
    {
        let job = &config["scrape_configs"][job];
        assert_eq!(job["metrics_path"], path);
        let expected: Vec<Value> = names
            .iter()
            .map(|name| json!({ "targets": [format!("{name}:{port}")], "labels": { "instance": name } }))
            .collect();
        assert_eq!(job["static_configs"], Value::Array(expected));
        for name in names {
            assert!(compose["services"].get(name).is_some(), "{name} is no host");
        }
    }
}

#[test]
fn lab_ports_agree_everywhere_and_are_published_on_loopback_only() {
    let compose = yaml("compose.yaml");
    let mut published = BTreeSet::new();
    for service in compose["services"].as_object().unwrap().values() {
        let ports = service["ports"].as_array().into_iter().flatten();
        published.extend(ports.map(|port| port.as_str().unwrap().to_owned()));
    }
    let one = |variable: &str, lab: u16, inside: u16| {
        format!("127.0.0.1:${{DEMO1_{variable}PORT:-{lab}}}:{inside}")
    };
    let [front, a, b, c] = ports::DEMO1_ADMINS;
    let [at_a, at_b, at_c] = ports::DEMO1_SERVICES;
    let expected = BTreeSet::from([
        one("", ports::DEMO1_FRONT, ports::DEMO1_FRONT),
        one("PROMETHEUS_", ports::DEMO1_PROMETHEUS, 9090),
        one("GRAFANA_", ports::DEMO1_GRAFANA, 3000),
        one("FRONT_ADMIN_", front, 9901),
        one("A_ADMIN_", a, 9901),
        one("B_ADMIN_", b, 9901),
        one("C_ADMIN_", c, 9901),
        one("A_", at_a, 8080),
        one("B_", at_b, 8080),
        one("C_", at_c, 8080),
    ]);
    assert_eq!(published, expected);
}

#[test]
fn every_container_is_hardened_and_has_a_health_check() {
    let compose = yaml("compose.yaml");
    for (name, service) in compose["services"].as_object().unwrap() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_u64(), "{name}");
        assert!(!service["user"].as_str().unwrap().starts_with("0:"), "{name}");
        // The load ends by itself.
        assert!(service["healthcheck"]["test"].is_array() || name == "load", "{name}");
        for refused in ["privileged", "cap_add", "pid", "container_name"] {
            assert!(service.get(refused).is_none(), "{name}: {refused}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let volume = volume.as_str().unwrap();
            assert!(volume.ends_with(":ro"), "{name}: {volume}");
            assert!(file(volume.split(':').next().unwrap()).exists(), "{name}: {volume}");
        }
    }
}

#[test]
fn grafana_provisioning_uses_the_data_source_and_dashboard_uids() {
    let compose = yaml("compose.yaml");
    let grafana = &compose["services"]["grafana"];
    assert_eq!(grafana["profiles"], json!(["grafana"]));
    let given = &yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0];
    let provided = &yaml("grafana/provisioning/dashboards/mesh.yaml")["providers"][0];

    // Every query of the dashboard goes to the data source that is provisioned.
    let source = Source {
        kind: given["type"].as_str().unwrap().to_owned(),
        uid: given["uid"].as_str().unwrap().to_owned(),
    };
    let dashboard = Dashboard::load_embedded().unwrap();
    let of_panels = dashboard.panels.iter().filter(|panel| panel.kind != "row");
    let of_panels = of_panels.flat_map(|panel| {
        panel.datasource.iter().chain(panel.targets.iter().map(|target| &target.datasource))
    });
    let of_variables = dashboard.variables().iter().map(|variable| &variable.datasource);
    let of_annotations = dashboard.annotations().iter().map(|annotation| &annotation.datasource);
    let mut asked = 0;
    for used in of_panels.chain(of_variables).chain(of_annotations) {
        assert_eq!(*used, source);
        asked += 1;
    }
    assert!(asked > 30);

    // That data source is the Prometheus of the stack, as often as it scrapes.
    let prometheus = &compose["services"]["prometheus"];
    assert_eq!(given["url"], "http://prometheus:9090");
    assert!(prometheus["command"].as_array().unwrap().contains(&json!("--web.listen-address=0.0.0.0:9090")));
    let config = yaml("prometheus/prometheus.yaml");
    assert_eq!(given["jsonData"]["timeInterval"], config["global"]["scrape_interval"]);

    // The dashboard is where it is looked for, and is what people see first.
    let folder = provided["options"]["path"].as_str().unwrap();
    let volumes = grafana["volumes"].as_array().unwrap();
    assert!(volumes.contains(&json!(format!("./grafana/dashboards:{folder}:ro"))));
    assert!(volumes.contains(&json!("./grafana/provisioning:/etc/grafana/provisioning:ro")));
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().unwrap();
    assert_eq!(home, format!("{folder}/mesh.json"));
    assert_eq!(text("grafana/dashboards/mesh.json"), dashboard::JSON);
    assert!((8..=40).contains(&dashboard.uid.len()), "{}", dashboard.uid);
}

#[test]
fn panels_do_not_overlap_and_have_unique_titles_and_descriptions() {
    let json: Value = serde_json::from_str(dashboard::JSON).unwrap();
    let panels = json["panels"].as_array().unwrap();
    let (mut ids, mut titles, mut squares) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        assert!(titles.insert(file_name(title)), "{title}");
        assert!(panel["type"] == "row" || panel["description"].as_str().unwrap().len() > 20, "{title}");
        let grid = |part: &str| panel["gridPos"][part].as_u64().unwrap();
        assert!(grid("x") + grid("w") <= 24, "{title}");
        for x in grid("x")..grid("x") + grid("w") {
            for y in grid("y")..grid("y") + grid("h") {
                assert!(squares.insert((x, y)), "{title} lies over another at {x}, {y}");
            }
        }
    }
    // What people choose from, and what was asked for.
    let dashboard = Dashboard::load_embedded().unwrap();
    let names: Vec<&str> = dashboard.variables().iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["source", "destination"]);
}

#[test]
fn the_inclusion_list_keeps_every_statistic_that_dashboard_and_alerts_use() {
    let dashboard = Dashboard::load_embedded().unwrap();
    let mut read: String = yaml("prometheus/alerts.yaml").to_string();
    for panel in &dashboard.panels {
        read.extend(panel.targets.iter().map(|target| target.expr.as_str()));
    }
    let words = read.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let labels = ["envoy_cluster_name", "envoy_http_conn_manager_prefix", "envoy_response_code_class"];
    let metrics: BTreeSet<&str> =
        words.filter(|word| word.starts_with("envoy_") && !labels.contains(word)).collect();
    assert!(metrics.len() >= 8, "{metrics:?}");
    for metric in metrics {
        // As Envoy writes it: `cluster.NAME.upstream_rq_total`.
        let kept = NEEDED_STATS.iter().any(|begin| {
            let mut parts = begin.splitn(3, '.');
            let (kind, _, rest) = (parts.next().unwrap(), parts.next(), parts.next().unwrap());
            metric.starts_with(&format!("envoy_{kind}_{rest}"))
        });
        assert!(kept, "{metric} would be lost");
    }
}

#[test]
#[ignore = "needs pip"]
fn the_dashboard_matches_grafanas_schema_and_a_misspelt_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    let get = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"];
    let got = run("python3", &[&get[..], &["--dest", at, "--requirement", "grafana/schema.txt"]].concat());
    assert!(got.status.success(), "{}", output_text(&got));
    let wheels = std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path());
    let wheel = wheels.into_iter().find(|path| path.extension().is_some_and(|end| end == "whl")).unwrap();
    let check = |name: &str, json: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, json).unwrap();
        // A wheel is an archive that Python reads modules from.
        let output = Command::new("python3")
            .arg(file("grafana/check.py"))
            .arg(path)
            .env("PYTHONPATH", &wheel)
            .output();
        let output = output.unwrap();
        (output.status.code(), output_text(&output))
    };
    let (code, complaints) = check("ours.json", dashboard::JSON);
    assert_eq!(code, Some(0), "{complaints}");
    assert!(complaints.contains("12 panels and 21 queries were read"), "{complaints}");
    for (right, wrong, complaint) in [
        ("\"legendFormat\"", "\"legendformat\"", "legendformat: no such field"),
        ("\"fillOpacity\": 8", "\"fillOpacity\": \"8\"", "fill_opacity"),
        ("\"showPoints\": \"never\"", "\"showPoints\": \"seldom\"", "seldom"),
        ("\"schemaVersion\": 41", "\"schemaVersion\": \"41\"", "schema_version"),
    ] {
        assert!(dashboard::JSON.contains(right), "{right}");
        let (code, complaints) = check("wrong.json", &dashboard::JSON.replacen(right, wrong, 1));
        assert!(code == Some(1) && complaints.contains(complaint), "{wrong}: {complaints}");
    }
    // The schema is that of the Grafana that people get.
    let image = yaml("compose.yaml")["services"]["grafana"]["image"].as_str().unwrap().to_owned();
    let version = image.rsplit_once(':').unwrap().1.to_owned();
    assert!(text("grafana/schema.txt").contains(&format!("!{version} ")), "{image}");
}

#[test]
fn the_readme_states_the_budget_and_links_existing_pictures() {
    let readme = text("README.md");
    assert!(readme.contains(&format!("budget of {BUDGET} series")));
    let titles =
        Dashboard::load_embedded().unwrap().panels.into_iter().filter(|panel| !panel.targets.is_empty());
    let drawn: BTreeSet<String> = titles.map(|panel| file_name(&panel.title)).collect();
    let shown = readme.split("](pictures/").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned());
    let shown: BTreeSet<String> = shown.collect();
    assert!(shown.len() >= 6, "{shown:?}");
    let there: BTreeSet<String> = std::fs::read_dir(file("pictures"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // What is there is what the command draws, and what is shown is there.
    assert_eq!(there, drawn);
    assert!(shown.is_subset(&there), "{shown:?}");
}
