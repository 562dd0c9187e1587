//! Sources of endpoints: what they find, what they refuse, and that a broken change costs nothing.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{CONTROL_PLANE, LIMIT, run, stderr};
use demo4_lb::discovery::docker::{Container, Leaving, NotInMesh, Reach};
use demo4_lb::discovery::{Endpoints, Found, Places};
use demo4_lb::topology::{DataPlane, Endpoint, LISTENER, Region, Split, World};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use mesh_xds::ResourceType;
use prost::Message;
use shared::lifecycle::{GRACE, Lifecycle};
use tokio::sync::mpsc;

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn found(region: &str, port: u16, weight: u32) -> Found {
    Found { region: region.to_owned(), endpoint: Endpoint { address: at(port), weight, healthy: true } }
}

/// Follows a file; what was found comes out of the channel.
fn follow(path: &Path, life: &Lifecycle) -> mpsc::UnboundedReceiver<Vec<Found>> {
    let (told, news) = mpsc::unbounded_channel();
    let source: Endpoints = format!("file:{}", path.display()).parse().unwrap();
    let following = source.follow(move |backends| drop(told.send(backends)));
    life.spawn(life.token().run_until_cancelled_owned(async { following.await.unwrap() }));
    news
}

async fn next(news: &mut mpsc::UnboundedReceiver<Vec<Found>>) -> Vec<Found> {
    tokio::time::timeout(LIMIT, news.recv()).await.unwrap().unwrap()
}

/// As an editor saves: written beside it, then put in its place.
fn save(path: &Path, text: &str) {
    let fresh: PathBuf = path.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

#[tokio::test]
async fn a_file_is_followed_and_a_broken_change_costs_nothing() {
    let (life, folder) = (Lifecycle::default(), tempfile::tempdir().unwrap());
    let file = folder.path().join("backends.yaml");
    save(&file, "endpoints:\n  - address: 127.0.0.1:1\n");
    let mut news = follow(&file, &life);
    assert_eq!(next(&mut news).await, [found("local", 1, 1)]);
    // None of these is taken for news; the next good one is.
    for broken in ["endpoints: [", "endpoints:\n  - adress: 127.0.0.1:1\n", ""] {
        save(&file, broken);
    }
    fs::remove_file(&file).unwrap();
    save(
        &file,
        "endpoints:\n  - { address: 127.0.0.1:3, locality: west }\n  - { address: 127.0.0.1:2, locality: east, weight: 7 }\n",
    );
    assert_eq!(next(&mut news).await, [found("east", 2, 7), found("west", 3, 1)]);
    save(&file, "endpoints: []\n");
    assert_eq!(next(&mut news).await, []);
    life.shut_down(GRACE).await.unwrap();
}

#[test]
fn a_broken_change_is_told_with_its_place_while_calls_go_on() {
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
    let told = log.find(|line| line.contains("keeping what is known")).unwrap();
    assert!(told.contains("backends.yaml") && told.contains("line 2"), "{told}");
    let output =
        run(common::CLIENT, &["--target", "xds:///echo", "--control-plane", address, "--count", "5"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_file_that_is_wrong_at_the_start_is_refused_with_its_place_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backends.yaml");
    for (text, words) in [
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
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains(words) && said.contains("backends.yaml"), "{words} is not in {said}");
    }
    let output = run(CONTROL_PLANE, &["--listen", "127.0.0.1:0", "--endpoints", "file:/nowhere/at-all.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/at-all.yaml"), "{}", stderr(&output));
}

#[test]
fn an_engine_that_is_not_there_is_told_with_the_remedies() {
    let mut command = common::command(CONTROL_PLANE);
    command.args(["--listen", "127.0.0.1:0", "--endpoints", "docker"]);
    let output = command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for words in ["Docker engine", "group_add", "DOCKER_HOST"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
}

#[test]
fn backends_are_gathered_by_region_and_a_region_weighs_what_they_weigh() {
    let mut places = Places::default();
    let regions = places.regions(&[found("west", 3, 2), found("east", 1, 5), found("west", 2, 1)]);
    let told: Vec<_> =
        regions.iter().map(|region| (region.name.as_str(), region.weight, region.backends.len())).collect();
    assert_eq!(told, [("east", 5, 1), ("west", 3, 2)]);
    // Who is gone keeps the place.
    let regions = places.regions(&[found("east", 1, 5)]);
    let told: Vec<_> = regions.iter().map(|region| (region.name.as_str(), region.weight)).collect();
    assert_eq!(told, [("east", 5), ("west", 0)]);
}

/// The parts of the regions' clusters in the one route of this world.
fn parts(world: &World, plane: DataPlane) -> Vec<u32> {
    let snapshot = world.snapshot(plane).unwrap();
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
fn a_region_where_nobody_serves_gets_no_part_of_a_route_unless_nobody_serves_anywhere() {
    let places = [Region::new("east", 7, [at(1)]), Region::new("west", 3, [at(2)])];
    let world = World { split: Split::Routes, ..World::of(at(0), places) };
    let east_is_ill = world.clone().with_health(at(1), false);
    assert_eq!(parts(&east_is_ill, DataPlane::Proxyless), [0, 3]);
    // Envoy is told of all, and finds out itself.
    assert_eq!(parts(&east_is_ill, DataPlane::Envoy), [7, 3]);
    // All zero is what Envoy refuses.
    for plane in DataPlane::ALL {
        assert_eq!(parts(&world.clone().with_weights(&[0, 0]), plane), [1, 1], "{plane:?}");
    }
}

#[test]
fn a_world_without_backends_is_still_one_that_clients_accept() {
    for split in [Split::Localities, Split::Routes] {
        let world = World { split, ..World::of(at(0), []) };
        for plane in DataPlane::ALL {
            let snapshot = world.snapshot(plane).unwrap();
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

const GOOD: [(&str, &str); 2] = [("mesh.service", "echo"), ("mesh.port", "50051")];

fn mesh() -> Reach {
    Reach::Networks(["mesh".to_owned(), "other".to_owned()].into())
}

#[test]
fn a_labelled_container_is_called_on_the_network_that_is_shared() {
    let one = container(&GOOD).endpoint("echo", &mesh()).unwrap();
    assert_eq!(one.endpoint.address, "10.1.0.2:50051".parse().unwrap());
    assert_eq!((one.region.as_str(), one.endpoint.weight), ("local", 1));
    let more = [GOOD[0], GOOD[1], ("mesh.locality", "east"), ("mesh.weight", "3")];
    let one = container(&more).endpoint("echo", &mesh()).unwrap();
    assert_eq!((one.region.as_str(), one.endpoint.weight), ("east", 3));
}

#[test]
fn from_outside_of_containers_the_published_port_is_called() {
    let one = container(&GOOD).endpoint("echo", &Reach::Published).unwrap();
    assert_eq!(one.endpoint.address, at(40000));
    let hidden = Container { published: [].into(), ..container(&GOOD) };
    let refused = hidden.endpoint("echo", &Reach::Published).unwrap_err();
    assert!(refused.to_string().contains("50051 is not published"), "{refused}");
}

#[test]
fn nothing_is_guessed_from_a_bad_label() {
    for (labels, words) in [
        (&[GOOD[0]][..], "mesh.port is missing"),
        (&[GOOD[0], ("mesh.port", "http")], "'http'"),
        (&[GOOD[0], ("mesh.port", "0")], "from 1"),
        (&[GOOD[0], ("mesh.port", "70000")], "'70000'"),
        (&[GOOD[0], GOOD[1], ("mesh.weight", "0")], "mesh.weight"),
        (&[GOOD[0], GOOD[1], ("mesh.weight", "many")], "'many'"),
        (&[GOOD[0], GOOD[1], ("mesh.weight", "10001")], "1 to 10000"),
        (&[GOOD[0], GOOD[1], ("mesh.locality", "")], "mesh.locality is empty"),
    ] {
        let refused = container(labels).endpoint("echo", &mesh()).unwrap_err();
        assert!(matches!(refused, NotInMesh::BadLabel { .. }), "{refused:?}");
        assert!(refused.to_string().contains(words), "{words} is not in {refused}");
    }
}

#[test]
fn containers_that_are_not_ours_not_up_or_out_of_reach_are_left_out() {
    let refused = |container: Container, reach: &Reach| container.endpoint("echo", reach).unwrap_err();
    assert!(matches!(refused(container(&[]), &mesh()), NotInMesh::NoLabel { .. }));
    let other = container(&[("mesh.service", "billing"), GOOD[1]]);
    assert!(matches!(refused(other, &mesh()), NotInMesh::OtherService { .. }));
    let stopped = Container { running: false, ..container(&GOOD) };
    assert!(matches!(refused(stopped, &mesh()), NotInMesh::NotServing { .. }));
    let ill = Container { healthy: false, ..container(&GOOD) };
    assert!(matches!(refused(ill, &mesh()), NotInMesh::NotServing { .. }));
    let elsewhere = Reach::Networks(["elsewhere".to_owned()].into());
    let told = refused(container(&GOOD), &elsewhere).to_string();
    assert!(told.contains("mesh") && told.contains("elsewhere"), "{told}");
}

#[test]
fn a_container_that_was_told_to_stop_is_leaving_until_it_is_started_again() {
    let mut leaving = Leaving::default();
    assert!(!leaving.look("a", "monday", None));
    leaving.told("a", "15");
    assert!(leaving.look("a", "monday", None) && leaving.look("a", "monday", None));
    assert!(!leaving.look("b", "monday", None), "another one stays");
    leaving.forget("a");
    assert!(!leaving.look("a", "tuesday", None));
}

#[test]
fn a_start_that_nobody_heard_of_leaves_no_container_out() {
    // With and without a look between the signal and the start.
    for looks in [0, 1] {
        let mut leaving = Leaving::default();
        assert!(!leaving.look("a", "monday", None));
        leaving.told("a", "SIGKILL");
        (0..looks).for_each(|_| assert!(leaving.look("a", "monday", None)));
        assert!(!leaving.look("a", "tuesday", None), "after {looks} looks");
        // And it can be told again.
        leaving.told("a", "15");
        assert!(leaving.look("a", "tuesday", None));
    }
}

#[test]
fn a_signal_that_ends_nothing_takes_no_backend_out() {
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
        let mut leaving = Leaving::default();
        assert!(!leaving.look("a", "monday", stop));
        leaving.told("a", signal);
        assert_eq!(leaving.look("a", "monday", stop), ends, "{signal} where {stop:?} stops it");
    }
}

#[test]
fn a_container_that_is_gone_is_forgotten_though_nobody_told() {
    let mut leaving = Leaving::default();
    leaving.told("a", "15");
    leaving.keep(&["a".to_owned()].into());
    assert!(leaving.look("a", "monday", None));
    leaving.keep(&["b".to_owned()].into());
    assert!(!leaving.look("a", "monday", None));
}
