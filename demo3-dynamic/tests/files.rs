//! Resources from files: every mistake is told with its place, and the real Envoy follows every change.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use demo3_dynamic::client::Client;
use mesh_xds::{Resource, Snapshot};
use mesh_xds_server::{FilesError, Folder};
use shared::envoy::{Bootstrap, Envoy};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::poll::wait_until;
use shared::ports::DEMO3_ENVOY;
use shared::tools;
use tempfile::TempDir;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/resources");
const CONTROL_PLANE: &str = env!("CARGO_BIN_EXE_demo3-control-plane");
const APP: &str = env!("CARGO_BIN_EXE_demo3-app");
const LIMIT: Duration = Duration::from_secs(30);
const OFTEN: Duration = Duration::from_millis(5);

/// A copy of the example folder.
fn example() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(EXAMPLE).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

fn edit(folder: &TempDir, file: &str, from: &str, to: &str) {
    let path = folder.path().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {file}");
    // As editors do: written beside it, and put in its place when it is whole.
    let whole = folder.path().join(".whole");
    fs::write(&whole, text.replace(from, to)).unwrap();
    fs::rename(whole, path).unwrap();
}

/// What a folder in which nobody writes gives.
fn read_twice(folder: &mut Folder) -> Result<Option<Snapshot>, FilesError> {
    match folder.read()? {
        None => folder.read(),
        some => Ok(some),
    }
}

/// What is said of a folder with this one file.
fn parse_error(name: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), text).unwrap();
    read_twice(&mut Folder::new(folder.path())).unwrap_err().to_string()
}

/// The names of the resources with their versions, in order.
fn versions(snapshot: &Snapshot) -> Vec<(String, String)> {
    let one = |one: &Arc<Resource>| (format!("{} {}", one.kind(), one.name()), one.version().to_string());
    let mut versions: Vec<_> = snapshot.resources().map(one).collect();
    versions.sort();
    versions
}

#[test]
fn the_example_is_consistent_and_unchanged_files_are_not_republished() {
    let mut folder = Folder::new(EXAMPLE);
    let snapshot = read_twice(&mut folder).unwrap().unwrap();
    assert_eq!(snapshot.resources().count(), 6);
    assert!(read_twice(&mut folder).unwrap().is_none());
}

#[test]
fn every_error_names_its_file_and_position() {
    const CLUSTER: &str = "\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster";
    for (text, expected) in [
        ("resources: [", &["a.yaml: ", "line 1"] as &[_]),
        ("resource: []", &["a.yaml: ", "resource", "resources"]),
        ("resources: []\nmore: 1", &["a.yaml: ", "more"]),
        ("resources: [7]", &["a.yaml: resources[0]: ", "@type"]),
        ("resources: [{name: x}]", &["resources[0]: ", "@type"]),
        ("resources: [{\"@type\": no.such.Thing}]", &["resources[0].@type: ", "no.such.Thing"]),
        (
            "resources: [{\"@type\": type.googleapis.com/envoy.config.core.v3.Address}]",
            &["resources[0]: ", "not a resource type that is served"],
        ),
        (&format!("resources: [{{{CLUSTER}}}]"), &["resources[0]: ", "has no name"]),
        (&format!("resources: [{{{CLUSTER}, nam: x}}]"), &["resources[0]: ", "'nam'"]),
        (
            &format!("resources: [{{{CLUSTER}, name: x}}, {{{CLUSTER}, name: y, connect_timeout: soon}}]"),
            &["resources[1].connect_timeout: ", "duration"],
        ),
        (&format!("resources: [{{{CLUSTER}, name: x, type: NO_SUCH}}]"), &["resources[0].type: ", "NO_SUCH"]),
        (&format!("resources: [{{{CLUSTER}, name: [x]}}]"), &["resources[0].name: "]),
        (&format!("resources: [{{{CLUSTER}, name: x}}, {{{CLUSTER}, name: x}}]"), &["cluster 'x'", "once"]),
        (
            &format!(
                "resources: [{{{CLUSTER}, name: x, type: EDS, eds_cluster_config: {{eds_config: {{ads: {{}}}}}}}}]"
            ),
            &["a.yaml: cluster 'x' refers to endpoints 'x'", "not in the snapshot"],
        ),
    ] {
        let message = parse_error("a.yaml", text);
        for word in expected {
            assert!(message.contains(word), "{word} is not in {message:?} of {text}");
        }
    }
    assert!(parse_error("a.json", "{\"resources\": [").contains("a.json: "));
}

#[test]
fn references_to_declared_bootstrap_clusters_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let routes = "resources: [{\"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: r, \
                  virtual_hosts: [{name: all, domains: [\"*\"], routes: [{match: {prefix: /}, route: {cluster: own}}]}]}]";
    fs::write(folder.path().join("a.yaml"), routes).unwrap();
    let message = read_twice(&mut Folder::new(folder.path())).unwrap_err().to_string();
    assert!(message.contains("route 'r' refers to cluster 'own'"), "{message}");
    assert!(
        message.ends_with("or name it with --bootstrap-cluster if Envoys have it from their bootstrap"),
        "{message}"
    );
    for (names_given, is_valid) in [(&["own"][..], true), (&["other", "own"], true), (&["other"], false)] {
        let names_given: Vec<String> = names_given.iter().map(|&name| name.to_owned()).collect();
        let read = read_twice(&mut Folder::new(folder.path()).external_clusters(&names_given));
        assert_eq!(read.is_ok_and(|snapshot| snapshot.is_some()), is_valid, "{names_given:?}");
    }
}

#[test]
fn duplicate_names_are_reported_with_both_files() {
    let folder = example();
    fs::copy(folder.path().join("routes.yaml"), folder.path().join("copy.yml")).unwrap();
    let message = read_twice(&mut Folder::new(folder.path())).unwrap_err().to_string();
    for word in ["copy.yml", "routes.yaml", "route 'edge'"] {
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn unreadable_files_are_reported_and_other_files_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let message = || Folder::new(path).read().unwrap_err().to_string();
    fs::write(path.join("notes.txt"), "not ours").unwrap();
    fs::write(path.join(".half.yaml"), "resources: [").unwrap();
    assert!(message().contains("no .yaml, .yml or .json file"), "{}", message());
    std::os::unix::fs::symlink(path.join("loop.yaml"), path.join("loop.yaml")).unwrap();
    assert!(message().contains("cannot read") && message().contains("loop.yaml"), "{}", message());
    fs::remove_file(path.join("loop.yaml")).unwrap();
    fs::create_dir(path.join("folder.yaml")).unwrap();
    assert!(message().contains("it is not a file"), "{}", message());
    fs::remove_dir(path.join("folder.yaml")).unwrap();
    fs::write(path.join("bytes.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    assert!(message().contains("UTF-8"), "{}", message());
    fs::write(path.join("bytes.yaml"), "#".repeat((4 << 20) + 1)).unwrap();
    assert!(message().contains("larger than"), "{}", message());
    let missing = Folder::new(path.join("nowhere")).read().unwrap_err().to_string();
    assert!(missing.contains("nowhere"), "{missing}");
}

#[test]
fn unchanged_files_keep_their_resource_versions() {
    let folder = example();
    let mut reader = Folder::new(folder.path());
    let before = versions(&read_twice(&mut reader).unwrap().unwrap());
    edit(&folder, "routes.yaml", "name: blue, weight: 100", "name: blue, weight: 50");
    let after = versions(&read_twice(&mut reader).unwrap().unwrap());
    let changed: Vec<&str> =
        before.iter().zip(&after).filter(|(was, is)| was != is).map(|(was, _)| was.0.as_str()).collect();
    assert_eq!(changed, ["RDS edge"]);
    // A broken file changes nothing, and mending it to what it was is no news.
    edit(&folder, "routes.yaml", "prefix: /", "prefix: [");
    read_twice(&mut reader).unwrap_err();
    edit(&folder, "routes.yaml", "prefix: [", "prefix: /");
    assert!(read_twice(&mut reader).unwrap().is_none());
}

#[test]
fn a_file_that_is_still_being_written_is_not_published() {
    const TYPE: &str = "\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clusters.yaml");
    let mut reader = Folder::new(folder.path());
    let mut text = "resources:\n".to_owned();
    // Each beginning of it is a file in good order.
    for cluster in ["one", "two", "three"] {
        text += &format!("- {TYPE}\n  name: {cluster}\n");
        fs::write(&path, &text).unwrap();
        assert!(reader.read().unwrap().is_none(), "published while {cluster} was being written");
    }
    assert_eq!(reader.read().unwrap().unwrap().resources().count(), 3);
    // The same text, written anew: somebody is at it, but there is no news in it.
    fs::write(&path, &text).unwrap();
    assert!(reader.read().unwrap().is_none());
    assert!(reader.read().unwrap().is_none());
}

#[test]
fn versions_are_deterministic() {
    let entries = |kind: &str| {
        (0..6).map(|n| format!("{{key{n}: {kind}}}")).collect::<Vec<_>>().join(", ").replace(['{', '}'], "")
    };
    // A map of messages that are maps of messages, and a map inside of an `Any` inside of an `Any`.
    let structs = (0..6).map(|n| format!("map{n}: {{{}}}", entries("7"))).collect::<Vec<_>>().join(", ");
    let text = format!(
        "resources:
- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: many
  metadata: {{filter_metadata: {{{structs}}}}}
- \"@type\": type.googleapis.com/envoy.config.listener.v3.Listener
  name: edge
  filter_chains:
  - filters:
    - name: http
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: edge
        route_config:
          virtual_hosts:
          - name: all
            domains: ['*']
            metadata: {{filter_metadata: {{{structs}}}}}
"
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("many.yaml"), &text).unwrap();
    let read = || versions(&read_twice(&mut Folder::new(folder.path())).unwrap().unwrap());
    let first = read();
    for _ in 0..20 {
        assert_eq!(read(), first);
    }
    // It is still a hash of all that is in there.
    fs::write(folder.path().join("many.yaml"), text.replacen("key3: 7", "key3: 8", 1)).unwrap();
    let changed: Vec<bool> = read().iter().zip(&first).map(|(one, other)| one != other).collect();
    assert_eq!(changed, [true, false]);
}

#[test]
fn errors_never_contain_secrets() {
    const SECRET: &str = "\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMG\\n-----END PRIVATE KEY-----\\n";
    for (field, place) in [
        (
            format!("tls_certificate: {{private_key: \"{PEM}\"}}"),
            "tls_certificate.private_key: expected a map",
        ),
        (format!("tls_certificate: \"{PEM}\""), "tls_certificate: expected a map"),
        (format!("tls_certificate: {{\"{PEM}\": 1}}"), "unrecognized field name"),
        (format!("tls_certificate: {{private_key: {{\"{PEM}\": 1}}}}"), "unrecognized field name"),
        (format!("\"{PEM}\": {{}}"), "unrecognized field name"),
        (
            "generic_secret: {secret: {inline_bytes: MIGHAgEAMBMG-}}".to_owned(),
            "generic_secret.secret.inline_bytes: ",
        ),
        (
            "session_ticket_keys: {keys: [{inline_bytes: [MIGHAgEAMBMG]}]}".to_owned(),
            "session_ticket_keys.keys[0].inline_bytes: ",
        ),
        ("generic_secret: {secret: {inlineString: [MIGHAgEAMBMG]}}".to_owned(), "inlineString: "),
        ("generic_secret: MIGHAgEAMBMG".to_owned(), "generic_secret: expected a map"),
        ("generic_secret: {MIGHAgEAMBMG: 1}".to_owned(), "unrecognized field name"),
        ("tls_certificate: {private_kee: {}}".to_owned(), "unrecognized field name 'private_kee'"),
        (
            "validation_context: {trust_chain_verification: MIGHAgEAMBMG}".to_owned(),
            "trust_chain_verification: ",
        ),
    ] {
        let message = parse_error("secret.yaml", &format!("resources: [{{{SECRET}, name: key, {field}}}]"));
        assert!(
            message.contains("secret.yaml: resources[0]") && message.contains(place),
            "{message} of {field}"
        );
        assert!(
            !message.contains("MIGH") && !message.contains("BEGIN") && !message.contains('\n'),
            "{message}"
        );
    }
    // Not only in secrets, and not only where a parser knows types.
    for text in [
        format!("resources: \"{PEM}\""),
        format!("\"{PEM}\": 1"),
        format!("{{a: 1, \"{PEM}\": 1, \"{PEM}\": 2}}"),
        format!("resources: [\"{PEM}\"]"),
        format!("resources: [{{\"@type\": \"{PEM}\"}}]"),
        format!(
            "resources: [{{\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: x, metadata: {{filter_metadata: {{\"{PEM}\": 1}}}}}}]"
        ),
        format!(
            "resources: [{{\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: x, type: \"{PEM}\"}}]"
        ),
        format!(
            "resources: [{{\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: x, connect_timeout: \"{PEM}\"}}]"
        ),
    ] {
        let one_line = text.replace("a: 1", "\"a\": 1").replace("resources:", "\"resources\":");
        for (name, text) in [("a.yaml", &text), ("a.json", &one_line)] {
            let message = parse_error(name, text);
            assert!(!message.contains("MIGH") && !message.contains('\n'), "{message} of {text}");
        }
    }
}

#[test]
fn errors_use_the_terms_of_the_file_format() {
    const ONE: &str = "{\"@type\":\"type.googleapis.com/envoy.config.cluster.v3.Cluster\",\"name\":\"x\"}";
    for (name, text, expected) in [
        ("a.yaml", "resources: []\n---\nresources: []\n".to_owned(), &["line 3", "one document a file"][..]),
        ("a.yaml", "resources: []\nresources: []\n".to_owned(), &["'resources' stands twice", "line 2"]),
        ("a.yaml", "resources: [{name: x, name: y}]".to_owned(), &["'name' stands twice", "line 1"]),
        (
            "a.json",
            "{\"resources\": [{\"name\": \"x\", \"name\": \"y\"}]}".to_owned(),
            &["'name' stands twice", "line 1"],
        ),
        // What is in order for YAML and no JSON.
        ("a.json", format!("{{\"resources\": [{ONE},]}}"), &["trailing comma", "line 1"]),
        ("a.json", "resources: []".to_owned(), &["line 1"]),
    ] {
        let message = parse_error(name, &text);
        for word in expected {
            assert!(message.contains(word), "{word} is not in {message:?} of {text}");
        }
        for advice in ["from_str_multiple", "DuplicateKeyPolicy", "Options"] {
            assert!(!message.contains(advice), "{message}");
        }
    }
    // What looks alike and is in order.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), format!("{{\"resources\": [{ONE}]}}")).unwrap();
    let merged = format!("---\nresources: [&x {}, {{<<: *x, name: z}}]", ONE.replace("\"x\"", "\"y\""));
    fs::write(folder.path().join("b.yaml"), merged).unwrap();
    let names = versions(&read_twice(&mut Folder::new(folder.path())).unwrap().unwrap());
    assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["CDS x", "CDS y", "CDS z"]);
}

#[test]
fn no_port_opens_before_the_first_state_is_read() {
    // The port is in use. The role must not get as far as to find that out.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let args = ["--listen", &address, "--admin", "127.0.0.1:0", "--resources"];
    let output = Command::new(CONTROL_PLANE).args(args).arg(folder.path()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("no .yaml") && !message.contains(&address), "{message}");
}

#[test]
fn an_unusable_folder_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for (path, expected) in [(folder.path(), "no .yaml"), (Path::new("/nowhere"), "cannot read /nowhere")] {
        let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--resources"];
        let output = Command::new(CONTROL_PLANE).args(args).arg(path).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    for args in [&["--resources", EXAMPLE, "--blue", "x:1"][..], &["--bootstrap-cluster", "own"]] {
        let output = Command::new(CONTROL_PLANE).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

struct Role {
    child: Child,
    addresses: Vec<SocketAddr>,
    stderr: Arc<Mutex<String>>,
}

impl Role {
    fn start(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let expected = line.split_whitespace().map(|word| word.trim_start_matches("http://"));
        let stderr = Arc::<Mutex<String>>::default();
        let (captured, lines) = (Arc::clone(&stderr), BufReader::new(child.stderr.take().unwrap()).lines());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *captured.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, addresses: expected.filter_map(|word| word.parse().ok()).collect(), stderr }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_applies_file_changes_and_an_invalid_file_changes_nothing() {
    let life = Lifecycle::default();
    let folder = example();
    let [blue, green] = ["blue", "green"].map(|name| Role::start(APP, &["--name", name]));
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    for (app, lab) in [(&blue, "13010"), (&green, "13011")] {
        edit(&folder, "endpoints.yaml", lab, &app.addresses[0].port().to_string());
    }
    edit(&folder, "listeners.json", &DEMO3_ENVOY.to_string(), &free.port().to_string());
    let path = folder.path().to_str().unwrap();
    let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--resources", path];
    let control_plane = Role::start(CONTROL_PLANE, &args);
    let program = tools::envoy(std::env::var_os("ENVOY").as_deref().map(Path::new)).await.unwrap();
    let envoy = Envoy::new(&program, Bootstrap::new("files", control_plane.addresses[0]).to_yaml());
    let envoy = envoy.start(&life).await.unwrap().ready(Duration::from_secs(60)).await.unwrap();
    let client = Client::plain(free);
    let wait_for_app = async |app: &str| {
        wait_until(app, OFTEN, LIMIT, || async {
            let answer = client.get("/").await.map_err(|refusal| refusal.to_string())?;
            if answer.body == app { Ok(()) } else { Err(answer.body) }
        })
        .await
        .unwrap();
    };
    wait_for_app("blue").await;

    edit(&folder, "routes.yaml", "name: blue, weight: 100", "name: blue, weight: 0");
    // Nobody has a share now, which Envoy refuses: the last good routes stay with it.
    let refused = || async {
        let answer = Client::plain(control_plane.addresses[1]).get("/clients").await;
        let message = answer.map(|answer| answer.body).unwrap_or_default();
        if message.contains("rejected") { Ok(()) } else { Err(message) }
    };
    wait_until("Envoy's refusal", OFTEN, LIMIT, refused).await.unwrap();
    wait_for_app("blue").await;
    edit(&folder, "routes.yaml", "name: green, weight: 0", "name: green, weight: 1");
    wait_for_app("green").await;

    edit(&folder, "clusters.yaml", "connect_timeout: 1s", "conect_timeout: 1s");
    let message = || async {
        let message = control_plane.stderr.lock().unwrap().clone();
        if message.contains("clusters.yaml: resources[0]: unrecognized field name 'conect_timeout'") {
            Ok(())
        } else {
            Err(message)
        }
    };
    wait_until("the complaint", OFTEN, LIMIT, message).await.unwrap();
    wait_for_app("green").await;
    edit(&folder, "clusters.yaml", "conect_timeout: 1s", "connect_timeout: 1s");
    edit(&folder, "routes.yaml", "name: blue, weight: 0", "name: blue, weight: 1");
    edit(&folder, "routes.yaml", "name: green, weight: 1", "name: green, weight: 0");
    wait_for_app("blue").await;
    envoy.stop().await;
    life.shut_down(GRACE).await.unwrap();
}
