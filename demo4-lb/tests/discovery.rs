//! Sources of endpoints: what they find, what they refuse, and that a broken change costs nothing.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{CONTROL_PLANE, LIMIT, run, stderr};
use demo4_lb::discovery::docker::{Container, NotAnEndpoint, Reachability, TerminationTracker};
use demo4_lb::discovery::{DiscoveredEndpoint, EndpointSource, KnownRegions};
use demo4_lb::topology::{DataPlane, DesiredState, Endpoint, LISTENER, Region, Split};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use mesh_xds::ResourceType;
use prost::Message;
use shared::lifecycle::{GRACE, Lifecycle};
use tokio::sync::mpsc;

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn found(region: &str, port: u16, weight: u32) -> DiscoveredEndpoint {
    DiscoveredEndpoint {
        region: region.to_owned(),
        endpoint: Endpoint { address: loopback(port), weight, healthy: true },
    }
}

/// Watches a file and sends each list of endpoints to the channel.
fn watch(path: &Path, life: &Lifecycle) -> mpsc::UnboundedReceiver<Vec<DiscoveredEndpoint>> {
    let (sender, changes) = mpsc::unbounded_channel();
    let source: EndpointSource = format!("file:{}", path.display()).parse().unwrap();
    let following = source.watch(move |backends| drop(sender.send(backends)));
    life.spawn(life.token().run_until_cancelled_owned(async { following.await.unwrap() }));
    changes
}

async fn next_change(
    changes: &mut mpsc::UnboundedReceiver<Vec<DiscoveredEndpoint>>,
) -> Vec<DiscoveredEndpoint> {
    tokio::time::timeout(LIMIT, changes.recv()).await.unwrap().unwrap()
}

/// As an editor saves: written beside it, then put in its place.
fn save(path: &Path, text: &str) {
    let fresh: PathBuf = path.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

#[tokio::test]
async fn an_endpoint_file_is_watched_and_an_invalid_change_is_ignored() {
    let (life, folder) = (Lifecycle::default(), tempfile::tempdir().unwrap());
    let file = folder.path().join("backends.yaml");
    save(&file, "endpoints:\n  - address: 127.0.0.1:1\n");
    let mut changes = watch(&file, &life);
    assert_eq!(next_change(&mut changes).await, [found("local", 1, 1)]);
    // None of these is taken for news; the next good one is.
    for broken in ["endpoints: [", "endpoints:\n  - adress: 127.0.0.1:1\n", ""] {
        save(&file, broken);
    }
    fs::remove_file(&file).unwrap();
    save(
        &file,
        "endpoints:\n  - { address: 127.0.0.1:3, locality: west }\n  - { address: 127.0.0.1:2, locality: east, weight: 7 }\n",
    );
    assert_eq!(next_change(&mut changes).await, [found("east", 2, 7), found("west", 3, 1)]);
    save(&file, "endpoints: []\n");
    assert_eq!(next_change(&mut changes).await, []);
    life.shut_down(GRACE).await.unwrap();
}

#[test]
fn an_invalid_change_is_logged_with_its_line_while_calls_continue() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backends.yaml");
    let backend = common::Role::backend(&["--name", "a"]);
    save(&file, &format!("endpoints:\n  - address: {}\n", backend.address));
    let mut command = common::command(CONTROL_PLANE);
    command.args(["--listen", "127.0.0.1:0", "--endpoints", &format!("file:{}", file.display())]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let address = first.trim().rsplit(' ').next().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    log.find(|line| line.contains("publishing")).unwrap();
    save(&file, "endpoints:\n  - address: nowhere\n");
    let logged = log.find(|line| line.contains("keeping what is known")).unwrap();
    assert!(logged.contains("backends.yaml") && logged.contains("line 2"), "{logged}");
    let output =
        run(common::CLIENT, &["--target", "xds:///echo", "--control-plane", address, "--count", "5"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_invalid_file_at_startup_is_rejected_with_its_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backends.yaml");
    for (text, expected) in [
        ("endpoints:\n  - address: nowhere\n", "line 2"),
        ("endpoints:\n  - addres: 127.0.0.1:1\n", "addres"),
        ("endpoints:\n  - { address: 127.0.0.1:1, weight: 0 }\n", "endpoints[0]"),
        // Two such regions, and Envoy refuses the route: their sum is more than 32 bits hold.
        ("endpoints:\n  - { address: 127.0.0.1:1, weight: 4294967295 }\n", "1 to 10000"),
        ("endpoints:\n  - { address: 127.0.0.1:1, weight: -1 }\n", "line 2"),
        ("endpoints:\n  - address: 127.0.0.1:1\n  - address: 127.0.0.1:1\n", "twice"),
        ("[]", "backends.yaml"),
        ("\u{0}\u{1}", "backends.yaml"),
    ] {
        fs::write(&file, text).unwrap();
        let source = format!("file:{}", file.display());
        let output = run(CONTROL_PLANE, &["--listen", "127.0.0.1:0", "--endpoints", &source]);
        let stderr_text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}: {stderr_text}");
        assert!(
            stderr_text.contains(expected) && stderr_text.contains("backends.yaml"),
            "{expected} is not in {stderr_text}"
        );
    }
    let output = run(CONTROL_PLANE, &["--listen", "127.0.0.1:0", "--endpoints", "file:/nowhere/at-all.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/at-all.yaml"), "{}", stderr(&output));
}

#[test]
fn an_unreachable_engine_is_reported_with_the_next_steps() {
    let mut command = common::command(CONTROL_PLANE);
    command.args(["--listen", "127.0.0.1:0", "--endpoints", "docker"]);
    let output = command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").output().unwrap();
    let stderr_text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{stderr_text}");
    for expected in ["Docker engine", "group_add", "DOCKER_HOST"] {
        assert!(stderr_text.contains(expected), "{expected} is not in {stderr_text}");
    }
}

#[test]
fn backends_are_grouped_by_region_and_a_region_has_the_sum_of_their_weights() {
    let mut known_regions = KnownRegions::default();
    let regions = known_regions.update(&[found("west", 3, 2), found("east", 1, 5), found("west", 2, 1)]);
    let endpoints_by_region: Vec<_> =
        regions.iter().map(|region| (region.name.as_str(), region.weight, region.backends.len())).collect();
    assert_eq!(endpoints_by_region, [("east", 5, 1), ("west", 3, 2)]);
    // A region without backends stays.
    let regions = known_regions.update(&[found("east", 1, 5)]);
    let endpoints_by_region: Vec<_> =
        regions.iter().map(|region| (region.name.as_str(), region.weight)).collect();
    assert_eq!(endpoints_by_region, [("east", 5), ("west", 0)]);
}

/// Returns the weights of the regions' clusters in the one route of this state.
fn route_weights(state: &DesiredState, plane: DataPlane) -> Vec<u32> {
    let snapshot = state.snapshot(plane).unwrap();
    // As it is sent: one field of a response.
    let response =
        DiscoveryResponse::decode(snapshot.get(ResourceType::Route, LISTENER).unwrap().sotw_field()).unwrap();
    let route = RouteConfiguration::decode(response.resources[0].value.as_slice()).unwrap();
    let Some(Action::Route(route)) = route.virtual_hosts[0].routes[0].action.clone() else {
        panic!("{route:?}")
    };
    let Some(ClusterSpecifier::WeightedClusters(split)) = route.cluster_specifier else {
        panic!("{route:?}")
    };
    split.clusters.into_iter().map(|one| one.weight.unwrap().value).collect()
}

#[test]
fn an_unhealthy_region_gets_weight_0_unless_every_region_is_unhealthy() {
    let known_regions = [Region::new("east", 7, [loopback(1)]), Region::new("west", 3, [loopback(2)])];
    let state =
        DesiredState { split: Split::Routes, ..DesiredState::from_regions(loopback(0), known_regions) };
    let east_unhealthy = state.clone().with_health(loopback(1), false);
    assert_eq!(route_weights(&east_unhealthy, DataPlane::Proxyless), [0, 3]);
    // Envoy receives every region and checks health itself.
    assert_eq!(route_weights(&east_unhealthy, DataPlane::Envoy), [7, 3]);
    // All zero is what Envoy refuses.
    for plane in DataPlane::ALL {
        assert_eq!(route_weights(&state.clone().with_weights(&[0, 0]), plane), [1, 1], "{plane:?}");
    }
}

#[test]
fn a_state_without_backends_still_gives_a_valid_snapshot() {
    for split in [Split::Localities, Split::Routes] {
        let state = DesiredState { split, ..DesiredState::from_regions(loopback(0), []) };
        for plane in DataPlane::ALL {
            let snapshot = state.snapshot(plane).unwrap();
            assert_eq!(snapshot.of(ResourceType::Cluster).len(), 1, "{split:?} {plane:?}");
        }
    }
}

fn container(labels: &[(&str, &str)]) -> Container {
    Container {
        name: "one".to_owned(),
        running: true,
        healthy: true,
        labels: labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect(),
        networks: [
            ("a".to_owned(), IpAddr::from([10, 0, 0, 2])),
            ("mesh".to_owned(), IpAddr::from([10, 1, 0, 2])),
        ]
        .into(),
        published: [(50051, 40000)].into(),
    }
}

const VALID_LABELS: [(&str, &str); 2] = [("mesh.service", "echo"), ("mesh.port", "50051")];

fn mesh_networks() -> Reachability {
    Reachability::Networks(["mesh".to_owned(), "other".to_owned()].into())
}

#[test]
fn a_labelled_container_is_reached_over_the_shared_network() {
    let one = container(&VALID_LABELS).endpoint("echo", &mesh_networks()).unwrap();
    assert_eq!(one.endpoint.address, "10.1.0.2:50051".parse().unwrap());
    assert_eq!((one.region.as_str(), one.endpoint.weight), ("local", 1));
    let more = [VALID_LABELS[0], VALID_LABELS[1], ("mesh.locality", "east"), ("mesh.weight", "3")];
    let one = container(&more).endpoint("echo", &mesh_networks()).unwrap();
    assert_eq!((one.region.as_str(), one.endpoint.weight), ("east", 3));
}

#[test]
fn outside_of_containers_the_published_port_is_used() {
    let one = container(&VALID_LABELS).endpoint("echo", &Reachability::Published).unwrap();
    assert_eq!(one.endpoint.address, loopback(40000));
    let hidden = Container { published: [].into(), ..container(&VALID_LABELS) };
    let error = hidden.endpoint("echo", &Reachability::Published).unwrap_err();
    assert!(error.to_string().contains("50051 is not published"), "{error}");
}

#[test]
fn an_invalid_label_is_an_error() {
    for (labels, expected) in [
        (&[VALID_LABELS[0]][..], "mesh.port is missing"),
        (&[VALID_LABELS[0], ("mesh.port", "http")], "'http'"),
        (&[VALID_LABELS[0], ("mesh.port", "0")], "from 1"),
        (&[VALID_LABELS[0], ("mesh.port", "70000")], "'70000'"),
        (&[VALID_LABELS[0], VALID_LABELS[1], ("mesh.weight", "0")], "mesh.weight"),
        (&[VALID_LABELS[0], VALID_LABELS[1], ("mesh.weight", "many")], "'many'"),
        (&[VALID_LABELS[0], VALID_LABELS[1], ("mesh.weight", "10001")], "1 to 10000"),
        (&[VALID_LABELS[0], VALID_LABELS[1], ("mesh.locality", "")], "mesh.locality is empty"),
    ] {
        let error = container(labels).endpoint("echo", &mesh_networks()).unwrap_err();
        assert!(matches!(error, NotAnEndpoint::InvalidLabel { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{expected} is not in {error}");
    }
}

#[test]
fn foreign_stopped_unhealthy_and_unreachable_containers_are_skipped() {
    let error = |container: Container, reachability: &Reachability| {
        container.endpoint("echo", reachability).unwrap_err()
    };
    assert!(matches!(error(container(&[]), &mesh_networks()), NotAnEndpoint::NoLabel { .. }));
    let other = container(&[("mesh.service", "billing"), VALID_LABELS[1]]);
    assert!(matches!(error(other, &mesh_networks()), NotAnEndpoint::OtherService { .. }));
    let stopped = Container { running: false, ..container(&VALID_LABELS) };
    assert!(matches!(error(stopped, &mesh_networks()), NotAnEndpoint::NotServing { .. }));
    let unhealthy = Container { healthy: false, ..container(&VALID_LABELS) };
    assert!(matches!(error(unhealthy, &mesh_networks()), NotAnEndpoint::NotServing { .. }));
    let elsewhere = Reachability::Networks(["elsewhere".to_owned()].into());
    let message = error(container(&VALID_LABELS), &elsewhere).to_string();
    assert!(message.contains("mesh") && message.contains("elsewhere"), "{message}");
}

#[test]
fn a_container_that_received_a_stop_signal_is_terminating_until_its_next_start() {
    let mut tracker = TerminationTracker::default();
    assert!(!tracker.observe("a", "monday", None));
    tracker.record_signal("a", "15");
    assert!(tracker.observe("a", "monday", None) && tracker.observe("a", "monday", None));
    assert!(!tracker.observe("b", "monday", None), "another container is not affected");
    tracker.remove("a");
    assert!(!tracker.observe("a", "tuesday", None));
}

#[test]
fn a_missed_start_event_does_not_exclude_a_container() {
    // With and without a look between the signal and the start.
    for observations in [0, 1] {
        let mut tracker = TerminationTracker::default();
        assert!(!tracker.observe("a", "monday", None));
        tracker.record_signal("a", "SIGKILL");
        (0..observations).for_each(|_| assert!(tracker.observe("a", "monday", None)));
        assert!(!tracker.observe("a", "tuesday", None), "after {observations} observations");
        // A later signal counts again.
        tracker.record_signal("a", "15");
        assert!(tracker.observe("a", "tuesday", None));
    }
}

#[test]
fn a_signal_that_does_not_terminate_excludes_no_backend() {
    for (signal, stop, ends) in [
        ("28", None, false),
        ("1", Some("SIGTERM"), false),
        ("SIGUSR1", None, false),
        ("28", Some("SIGWINCH"), true),
        ("37", Some("SIGRTMIN+3"), true),
        ("3", None, true),
        ("15", Some("SIGQUIT"), true),
        ("", None, true),
    ] {
        let mut tracker = TerminationTracker::default();
        assert!(!tracker.observe("a", "monday", stop));
        tracker.record_signal("a", signal);
        assert_eq!(tracker.observe("a", "monday", stop), ends, "{signal} where {stop:?} stops it");
    }
}

#[test]
fn a_removed_container_is_forgotten_without_an_event() {
    let mut tracker = TerminationTracker::default();
    tracker.record_signal("a", "15");
    tracker.retain(&["a".to_owned()].into());
    assert!(tracker.observe("a", "monday", None));
    tracker.retain(&["b".to_owned()].into());
    assert!(!tracker.observe("a", "monday", None));
}
