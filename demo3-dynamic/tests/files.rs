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
use demo3_dynamic::files::Folder;
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

/// What is said of a folder with this one file.
fn complaint(name: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), text).unwrap();
    Folder::new(folder.path()).read().unwrap_err().to_string()
}

#[test]
fn the_example_is_consistent_and_unchanged_files_are_no_news() {
    let mut folder = Folder::new(EXAMPLE);
    let snapshot = folder.read().unwrap().unwrap();
    assert_eq!(snapshot.resources().count(), 6);
    assert!(folder.read().unwrap().is_none());
}

#[test]
fn every_mistake_is_told_with_its_file_and_its_place_in_it() {
    const CLUSTER: &str = "\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster";
    for (text, words) in [
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
        let told = complaint("a.yaml", text);
        for word in words {
            assert!(told.contains(word), "{word} is not in {told:?} of {text}");
        }
    }
    assert!(complaint("a.json", "{\"resources\": [").contains("a.json: "));
}

#[test]
fn names_that_stand_in_two_files_are_told_with_both() {
    let folder = example();
    fs::copy(folder.path().join("routes.yaml"), folder.path().join("copy.yml")).unwrap();
    let told = Folder::new(folder.path()).read().unwrap_err().to_string();
    for word in ["copy.yml", "routes.yaml", "route 'edge'"] {
        assert!(told.contains(word), "{told}");
    }
}

#[test]
fn what_cannot_be_read_is_told_and_what_is_not_ours_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let told = || Folder::new(at).read().unwrap_err().to_string();
    fs::write(at.join("notes.txt"), "not ours").unwrap();
    fs::write(at.join(".half.yaml"), "resources: [").unwrap();
    assert!(told().contains("no .yaml, .yml or .json file"), "{}", told());
    std::os::unix::fs::symlink(at.join("loop.yaml"), at.join("loop.yaml")).unwrap();
    assert!(told().contains("cannot read") && told().contains("loop.yaml"), "{}", told());
    fs::remove_file(at.join("loop.yaml")).unwrap();
    fs::create_dir(at.join("folder.yaml")).unwrap();
    assert!(told().contains("it is not a file"), "{}", told());
    fs::remove_dir(at.join("folder.yaml")).unwrap();
    fs::write(at.join("bytes.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    assert!(told().contains("UTF-8"), "{}", told());
    fs::write(at.join("bytes.yaml"), "#".repeat((4 << 20) + 1)).unwrap();
    assert!(told().contains("larger than"), "{}", told());
    let gone = Folder::new(at.join("nowhere")).read().unwrap_err().to_string();
    assert!(gone.contains("nowhere"), "{gone}");
}

#[test]
fn a_file_that_did_not_change_keeps_the_versions_of_its_resources() {
    let folder = example();
    let mut reader = Folder::new(folder.path());
    let versions = |snapshot: shared::xds::snapshot::Snapshot| -> Vec<(String, String)> {
        let one = |one: &Arc<shared::xds::resource::Resource>| {
            (format!("{} {}", one.kind(), one.name()), one.version().to_string())
        };
        let mut versions: Vec<_> = snapshot.resources().map(one).collect();
        versions.sort();
        versions
    };
    let before = versions(reader.read().unwrap().unwrap());
    edit(&folder, "routes.yaml", "name: blue, weight: 100", "name: blue, weight: 50");
    let after = versions(reader.read().unwrap().unwrap());
    let changed: Vec<&str> =
        before.iter().zip(&after).filter(|(was, is)| was != is).map(|(was, _)| was.0.as_str()).collect();
    assert_eq!(changed, ["RDS edge"]);
    // A broken file changes nothing, and mending it to what it was is no news.
    edit(&folder, "routes.yaml", "prefix: /", "prefix: [");
    reader.read().unwrap_err();
    edit(&folder, "routes.yaml", "prefix: [", "prefix: /");
    assert!(reader.read().unwrap().is_none());
}

#[test]
fn a_folder_that_gives_nothing_ends_the_role_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for (path, words) in [(folder.path(), "no .yaml"), (Path::new("/nowhere"), "cannot read /nowhere")] {
        let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--resources"];
        let output = Command::new(CONTROL_PLANE).args(args).arg(path).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(words), "{told}");
    }
    let output =
        Command::new(CONTROL_PLANE).args(["--resources", EXAMPLE, "--blue", "x:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
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
        let words = line.split_whitespace().map(|word| word.trim_start_matches("http://"));
        let stderr = Arc::<Mutex<String>>::default();
        let (kept, lines) = (Arc::clone(&stderr), BufReader::new(child.stderr.take().unwrap()).lines());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *kept.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, addresses: words.filter_map(|word| word.parse().ok()).collect(), stderr }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_follows_the_files_and_a_broken_one_stops_nothing() {
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
    let answered_by = async |app: &str| {
        wait_until(app, OFTEN, LIMIT, || async {
            let answer = client.get("/").await.map_err(|refusal| refusal.to_string())?;
            if answer.body == app { Ok(()) } else { Err(answer.body) }
        })
        .await
        .unwrap();
    };
    answered_by("blue").await;

    edit(&folder, "routes.yaml", "name: blue, weight: 100", "name: blue, weight: 0");
    // Nobody has a share now, which Envoy refuses: the last good routes stay with it.
    let refused = || async {
        let answer = Client::plain(control_plane.addresses[1]).get("/clients").await;
        let told = answer.map(|answer| answer.body).unwrap_or_default();
        if told.contains("refused") { Ok(()) } else { Err(told) }
    };
    wait_until("Envoy's refusal", OFTEN, LIMIT, refused).await.unwrap();
    answered_by("blue").await;
    edit(&folder, "routes.yaml", "name: green, weight: 0", "name: green, weight: 1");
    answered_by("green").await;

    edit(&folder, "clusters.yaml", "connect_timeout: 1s", "conect_timeout: 1s");
    let told = || async {
        let told = control_plane.stderr.lock().unwrap().clone();
        if told.contains("clusters.yaml: resources[0]: unrecognized field name 'conect_timeout'") {
            Ok(())
        } else {
            Err(told)
        }
    };
    wait_until("the complaint", OFTEN, LIMIT, told).await.unwrap();
    answered_by("green").await;
    edit(&folder, "clusters.yaml", "conect_timeout: 1s", "connect_timeout: 1s");
    edit(&folder, "routes.yaml", "name: blue, weight: 0", "name: blue, weight: 1");
    edit(&folder, "routes.yaml", "name: green, weight: 1", "name: green, weight: 0");
    answered_by("blue").await;
    envoy.stop().await;
    life.shut_down(GRACE).await.unwrap();
}
