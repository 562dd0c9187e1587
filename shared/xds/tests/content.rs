//! What a response carries, and when there is one (rules 34 to 43).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/world.rs"]
mod world;

use client::{Client, both, told};
use mesh_xds::ResourceType::{Cluster, Endpoints, Listener, Route, Secret};
use mesh_xds::frame::Dialect::{Delta, Sotw};
use mesh_xds::{Resource, ResourceType, Snapshot};
use world::{World, clusters, some, web};

#[test]
fn c34_cluster_and_listener_responses_are_full_and_others_may_be_partial() {
    for kind in ResourceType::ALL {
        let mut client = Client::new(Sotw);
        let before = some(kind, &[("a", 1), ("b", 1)]);
        client.publish(&before);
        let got = client.ask(kind, &["a", "b"]);
        client.settle(got);
        let got = client.publish(&some(kind, &[("a", 2), ("b", 1)]));
        let expected = if kind.is_root() { format!("{kind} a b") } else { format!("{kind} a") };
        assert_eq!(told(&got)[0], expected);
    }
}

#[test]
fn c35_an_empty_cluster_response_deletes_all_and_an_empty_endpoints_response_is_never_needed() {
    let mut client = Client::new(Sotw);
    client.publish(&clusters(&["a"]));
    let got = client.ask(Cluster, &[]);
    client.settle(got);
    let got = client.ask(Endpoints, &["a"]);
    client.settle(got);
    let got = client.publish(&World::default());
    assert_eq!(told(&client.settle(got)), ["CDS"]);
    assert!(client.holds(Cluster).is_empty());
    assert_eq!(client.holds(Endpoints), ["a"], "gone with its cluster, as far as the client minds");
}

#[test]
fn c36_endpoints_and_routes_go_away_through_their_parents_only() {
    let mut client = Client::new(Sotw);
    client.start_like_envoy(&web());
    let got = client.publish(&World::default());
    // The listener first, and the cluster once nothing needs it; no word about the other two.
    assert_eq!(told(&client.settle(got)), ["LDS", "CDS"]);
    // What comes back under the same name is sent again, though the version is an old one.
    let got = client.publish(&web());
    assert_eq!(told(&client.settle(got)), ["CDS be", "EDS be", "LDS web", "RDS paths"]);
}

#[test]
fn c37_deletion_is_told_in_removed_resources() {
    for kind in ResourceType::ALL {
        let mut client = Client::new(Delta);
        client.publish(&some(kind, &[("a", 1), ("b", 1)]));
        let got = client.ask(kind, &["a", "b"]);
        client.settle(got);
        let got = client.publish(&some(kind, &[("b", 1)]));
        assert_eq!(told(&client.settle(got)), [format!("{kind} -a")]);
        assert_eq!(client.holds(kind), ["b"]);
    }
}

#[test]
fn c38_a_name_stands_once_in_a_response() {
    both(|mut client| {
        client.publish(&clusters(&["a"]));
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let names = text(&["a", "*", "a", "missing", "missing"]);
        // `decode` looks for doubles; here is what could make some.
        let got = if client.is_sotw() {
            client.ask_sotw(Cluster, |request| request.resource_names = names)
        } else {
            client.ask_delta(Cluster, |request| {
                request.resource_names_subscribe = names;
                request.initial_resource_versions = [("missing".to_owned(), "1".to_owned())].into();
            })
        };
        assert_eq!(told(&got), [if client.is_sotw() { "CDS a" } else { "CDS a -missing" }]);
    });
}

#[test]
fn c39_nothing_is_said_without_need() {
    both(|mut client| {
        client.start_like_envoy(&web());
        assert!(client.publish(&web()).is_empty(), "the same world again");
        assert!(client.publish(&web().secret("not subscribed to", 1)).is_empty());
        let world = web().endpoints("be", 2);
        let first = client.publish(&world);
        assert_eq!(told(&first), ["EDS be"]);
        // While that is on its way there and back, the world changes often, and back again.
        for edition in 3..20 {
            assert!(client.publish(&web().endpoints("be", edition)).is_empty());
        }
        client.publish(&world);
        assert!(client.ack(&first[0]).is_empty(), "it has what there is");
        let change = client.publish(&web().endpoints("be", 20));
        for edition in 21..30 {
            client.publish(&web().endpoints("be", edition));
        }
        let merged = client.ack(&change[0]);
        assert_eq!(told(&merged), ["EDS be"]);
        assert!(client.ack(&merged[0]).is_empty());
        assert_eq!(client.sides[Endpoints].held["be"].1, world::any_of(&world::endpoints("be", 29)));
    });
}

#[test]
fn c40_versions_follow_from_content_alone() {
    let build = |resources: Vec<Resource>| Snapshot::new(resources).unwrap();
    let world = web().cluster("other", 1).secret("s", 1);
    let (one, two) = (build(world.resources()), build(world.resources().into_iter().rev().collect()));
    for kind in ResourceType::ALL {
        assert_eq!(one.of(kind).version(), two.of(kind).version());
        for resource in one.of(kind).iter() {
            assert_eq!(resource.version(), two.get(kind, resource.name()).unwrap().version());
        }
    }
    // What another process computed; a change of the hash would make every client load all again.
    assert_eq!(world::secret("s", 1).version().to_string(), "50e7a37114f315e2");
    assert_ne!(world::secret("s", 1).version(), world::secret("s", 2).version());
    assert_ne!(world::secret("s", 1).version(), world::secret("t", 1).version());
}

#[test]
fn c41_on_reconnect_only_differences_are_sent() {
    let before = clusters(&["changed", "gone", "same"]).secret("s", 1);
    let mut client = Client::new(Delta);
    client.publish(&before);
    for (kind, names) in [(Cluster, vec![]), (Secret, vec!["s"])] {
        let got = client.ask(kind, &names);
        client.settle(got);
    }
    let after = clusters(&["same", "new"]).cluster("changed", 2).secret("s", 1);
    client.publish_unnoticed(&after);
    client.reconnect();
    let got = client.resume(Cluster);
    assert_eq!(told(&got), ["CDS changed new -gone"]);
    client.settle(got);
    assert!(client.resume(Secret).is_empty());
    // And from then on it goes on as ever.
    assert_eq!(told(&client.publish(&after.clone().secret("s", 2))), ["SDS s"]);
}

#[test]
fn c41_a_reconnect_before_the_first_snapshot_deletes_nothing() {
    both(|mut client| {
        client.start_like_envoy(&web());
        let dialect = client.dialect;
        let mut restarted = Client::new(dialect);
        restarted.sides = client.sides.clone();
        restarted.reconnect();
        for kind in [Cluster, Endpoints, Listener, Route] {
            assert!(restarted.resume(kind).is_empty());
        }
        assert!(restarted.publish(&web()).is_empty(), "the new server's versions are the old one's");
        let got = restarted.publish(&web().endpoints("be", 2));
        assert_eq!(told(&got), ["EDS be"]);
    });
}

#[test]
fn c42_on_reconnect_the_same_version_and_names_get_no_response() {
    for kind in [Cluster, Endpoints] {
        let names: &[&str] = if kind == Cluster { &[] } else { &["a", "b"] };
        let mut client = Client::new(Sotw);
        client.publish(&clusters(&["a", "b"]));
        let got = client.ask(kind, names);
        client.settle(got);
        client.reconnect();
        assert!(client.resume(kind).is_empty());
        // Another version.
        client.publish_unnoticed(&clusters(&["a"]).cluster("b", 2));
        client.reconnect();
        assert_eq!(told(&client.resume(kind)), [format!("{kind} a b")]);
    }
    // The version that it had, but other names: some are new, or some are missing in it.
    for names in [&["a"][..], &["a", "b", "c"]] {
        let mut client = Client::new(Sotw);
        client.publish(&clusters(&["a", "b", "c"]));
        let got = client.ask(Endpoints, &["a", "b"]);
        client.settle(got);
        client.reconnect();
        client.sides[Endpoints].names = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(told(&client.resume(Endpoints)), [format!("EDS {}", names.join(" "))]);
    }
}

#[test]
fn c42_what_was_deleted_while_away_is_left_out_on_reconnect() {
    for names in [&[][..], &["a", "b"]] {
        let mut client = Client::new(Sotw);
        client.publish(&clusters(&["a", "b"]));
        let got = client.ask(Cluster, names);
        client.settle(got);
        client.publish_unnoticed(&World::default());
        client.reconnect();
        assert_eq!(told(&client.resume(Cluster)), ["CDS"]);
    }
}

#[test]
fn c43_the_system_version_decides_nothing() {
    let mut client = Client::new(Delta);
    client.publish(&clusters(&["a", "b"]));
    let first = client.ask(Cluster, &[]).remove(0);
    client.ack(&first);
    let again = client.ask(Cluster, &["*", "a"]).remove(0);
    // The whole is what it was, and yet the name is answered, with a version of its own.
    assert_eq!(again.version, first.version);
    assert_eq!(again.to_string(), "CDS a");
    assert_ne!(again.items[0].version, again.version);
}

#[test]
fn the_version_is_always_that_of_what_the_client_holds() {
    both(|mut client| {
        let start = clusters(&["a", "b"]);
        client.publish(&start);
        let got = client.ask(Cluster, &[]);
        client.settle(got);
        let worlds = [
            start.clone().cluster("bad", 1),
            start.clone().cluster("bad", 1).cluster("a", 2),
            start.clone().cluster("a", 2).without(Cluster, "b"),
            start.clone().cluster("a", 2),
        ];
        for world in &worlds {
            for got in client.publish(world) {
                let bad = got.items.iter().any(|item| item.name == "bad");
                let more = if bad { client.nack_names(&got, &["bad"]) } else { client.ack(&got) };
                assert!(more.is_empty());
            }
        }
        let end = worlds[3].snapshot();
        let last = client.publish(&worlds[3].clone().cluster("c", 1)).remove(0);
        let sum = end.of(Cluster).version().with(world::cluster("c", 1).version());
        assert_eq!(last.version, sum.to_string());
    });
}

#[test]
fn large_responses_arrive_whole_though_they_are_sent_in_pieces() {
    both(|mut client| {
        let names: Vec<String> = (0..2000).map(|n| format!("cluster-{n:04}")).collect();
        let world = names.iter().fold(World::default(), |world, name| world.cluster(name, 1));
        client.publish(&world);
        let all = client.ask(Cluster, &[]);
        assert_eq!(all[0].items.len(), names.len());
        client.settle(all);
        let half: Vec<&str> = names.iter().step_by(2).map(String::as_str).collect();
        let some = client.ask(Endpoints, &half);
        assert_eq!(some[0].items.len(), half.len());
        client.settle(some);
        let snapshot = world.snapshot();
        assert!(snapshot.of(Cluster).iter().all(|one| client.has(one)));
    });
}
