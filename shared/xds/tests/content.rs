//! The content of responses, and when the server sends one (rules 34 to 43).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/topology.rs"]
mod topology;

use client::{Client, in_both_variants, summaries};
use mesh_xds::ResourceType::{Cluster, Endpoints, Listener, Route, Secret};
use mesh_xds::XdsVariant::{Delta, Sotw};
use mesh_xds::{Resource, ResourceType, Snapshot};
use topology::{Topology, clusters, some, web};

#[test]
fn c34_cluster_and_listener_responses_are_full_and_others_may_be_partial() {
    for kind in ResourceType::ALL {
        let mut client = Client::new(Sotw);
        let before = some(kind, &[("a", 1), ("b", 1)]);
        client.publish(&before);
        let got = client.subscribe(kind, &["a", "b"]);
        client.ack_all(got);
        let got = client.publish(&some(kind, &[("a", 2), ("b", 1)]));
        let expected = if kind.is_root() { format!("{kind} a b") } else { format!("{kind} a") };
        assert_eq!(summaries(&got)[0], expected);
    }
}

#[test]
fn c35_an_empty_cluster_response_deletes_all_and_an_empty_endpoints_response_is_never_needed() {
    let mut client = Client::new(Sotw);
    client.publish(&clusters(&["a"]));
    let got = client.subscribe(Cluster, &[]);
    client.ack_all(got);
    let got = client.subscribe(Endpoints, &["a"]);
    client.ack_all(got);
    let got = client.publish(&Topology::default());
    assert_eq!(summaries(&client.ack_all(got)), ["CDS"]);
    assert!(client.holds(Cluster).is_empty());
    assert_eq!(client.holds(Endpoints), ["a"], "gone with its cluster, as far as the client minds");
}

#[test]
fn c36_endpoints_and_routes_go_away_through_their_parents_only() {
    let mut client = Client::new(Sotw);
    client.start_like_envoy(&web());
    let got = client.publish(&Topology::default());
    // The listener first, and the cluster once nothing needs it; no word about the other two.
    assert_eq!(summaries(&client.ack_all(got)), ["LDS", "CDS"]);
    // What comes back under the same name is sent again, though the version is an old one.
    let got = client.publish(&web());
    assert_eq!(summaries(&client.ack_all(got)), ["CDS be", "EDS be", "LDS web", "RDS paths"]);
}

#[test]
fn c37_deletions_are_in_removed_resources() {
    for kind in ResourceType::ALL {
        let mut client = Client::new(Delta);
        client.publish(&some(kind, &[("a", 1), ("b", 1)]));
        let got = client.subscribe(kind, &["a", "b"]);
        client.ack_all(got);
        let got = client.publish(&some(kind, &[("b", 1)]));
        assert_eq!(summaries(&client.ack_all(got)), [format!("{kind} -a")]);
        assert_eq!(client.holds(kind), ["b"]);
    }
}

#[test]
fn c38_a_response_has_each_name_once() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["a"]));
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let names = text(&["a", "*", "a", "missing", "missing"]);
        // `decode` looks for doubles; here is what could make some.
        let got = if client.is_sotw() {
            client.request_sotw(Cluster, |request| request.resource_names = names)
        } else {
            client.request_delta(Cluster, |request| {
                request.resource_names_subscribe = names;
                request.initial_resource_versions = [("missing".to_owned(), "1".to_owned())].into();
            })
        };
        assert_eq!(summaries(&got), [if client.is_sotw() { "CDS a" } else { "CDS a -missing" }]);
    });
}

#[test]
fn c39_no_response_without_a_reason() {
    in_both_variants(|mut client| {
        client.start_like_envoy(&web());
        assert!(client.publish(&web()).is_empty(), "the same topology again");
        assert!(client.publish(&web().secret("not subscribed to", 1)).is_empty());
        let topology = web().endpoints("be", 2);
        let first = client.publish(&topology);
        assert_eq!(summaries(&first), ["EDS be"]);
        // While that is on its way there and back, the topology changes often, and back again.
        for edition in 3..20 {
            assert!(client.publish(&web().endpoints("be", edition)).is_empty());
        }
        client.publish(&topology);
        assert!(client.ack(&first[0]).is_empty(), "it has what there is");
        let change = client.publish(&web().endpoints("be", 20));
        for edition in 21..30 {
            client.publish(&web().endpoints("be", edition));
        }
        let merged = client.ack(&change[0]);
        assert_eq!(summaries(&merged), ["EDS be"]);
        assert!(client.ack(&merged[0]).is_empty());
        assert_eq!(client.types[Endpoints].held["be"].1, topology::any_of(&topology::endpoints("be", 29)));
    });
}

#[test]
fn c40_versions_depend_on_content_only() {
    let build = |resources: Vec<Resource>| Snapshot::new(resources).unwrap();
    let topology = web().cluster("other", 1).secret("s", 1);
    let (one, two) = (build(topology.resources()), build(topology.resources().into_iter().rev().collect()));
    for kind in ResourceType::ALL {
        assert_eq!(one.of(kind).version(), two.of(kind).version());
        for resource in one.of(kind).iter() {
            assert_eq!(resource.version(), two.get(kind, resource.name()).unwrap().version());
        }
    }
    // What another process computed; a change of the hash would make every client load all again.
    assert_eq!(topology::secret("s", 1).version().to_string(), "50e7a37114f315e2");
    assert_ne!(topology::secret("s", 1).version(), topology::secret("s", 2).version());
    assert_ne!(topology::secret("s", 1).version(), topology::secret("t", 1).version());
}

#[test]
fn c41_on_reconnect_only_differences_are_sent() {
    let before = clusters(&["changed", "gone", "same"]).secret("s", 1);
    let mut client = Client::new(Delta);
    client.publish(&before);
    for (kind, names) in [(Cluster, vec![]), (Secret, vec!["s"])] {
        let got = client.subscribe(kind, &names);
        client.ack_all(got);
    }
    let after = clusters(&["same", "new"]).cluster("changed", 2).secret("s", 1);
    client.publish_unnoticed(&after);
    client.reconnect();
    let got = client.resume(Cluster);
    assert_eq!(summaries(&got), ["CDS changed new -gone"]);
    client.ack_all(got);
    assert!(client.resume(Secret).is_empty());
    // After that, updates continue as usual.
    assert_eq!(summaries(&client.publish(&after.clone().secret("s", 2))), ["SDS s"]);
}

#[test]
fn c41_a_reconnect_before_the_first_snapshot_deletes_nothing() {
    in_both_variants(|mut client| {
        client.start_like_envoy(&web());
        let variant = client.variant;
        let mut restarted = Client::new(variant);
        restarted.types = client.types.clone();
        restarted.reconnect();
        for kind in [Cluster, Endpoints, Listener, Route] {
            assert!(restarted.resume(kind).is_empty());
        }
        assert!(restarted.publish(&web()).is_empty(), "the new server's versions are the old one's");
        let got = restarted.publish(&web().endpoints("be", 2));
        assert_eq!(summaries(&got), ["EDS be"]);
    });
}

#[test]
fn c42_on_reconnect_the_same_version_and_names_get_no_response() {
    for kind in [Cluster, Endpoints] {
        let names: &[&str] = if kind == Cluster { &[] } else { &["a", "b"] };
        let mut client = Client::new(Sotw);
        client.publish(&clusters(&["a", "b"]));
        let got = client.subscribe(kind, names);
        client.ack_all(got);
        client.reconnect();
        assert!(client.resume(kind).is_empty());
        // Another version.
        client.publish_unnoticed(&clusters(&["a"]).cluster("b", 2));
        client.reconnect();
        assert_eq!(summaries(&client.resume(kind)), [format!("{kind} a b")]);
    }
    // The version that it had, but other names: some are new, or some are missing in it.
    for names in [&["a"][..], &["a", "b", "c"]] {
        let mut client = Client::new(Sotw);
        client.publish(&clusters(&["a", "b", "c"]));
        let got = client.subscribe(Endpoints, &["a", "b"]);
        client.ack_all(got);
        client.reconnect();
        client.types[Endpoints].names = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(summaries(&client.resume(Endpoints)), [format!("EDS {}", names.join(" "))]);
    }
}

#[test]
fn c42_resources_deleted_while_disconnected_are_left_out_on_reconnect() {
    for names in [&[][..], &["a", "b"]] {
        let mut client = Client::new(Sotw);
        client.publish(&clusters(&["a", "b"]));
        let got = client.subscribe(Cluster, names);
        client.ack_all(got);
        client.publish_unnoticed(&Topology::default());
        client.reconnect();
        assert_eq!(summaries(&client.resume(Cluster)), ["CDS"]);
    }
}

#[test]
fn c43_the_system_version_is_ignored() {
    let mut client = Client::new(Delta);
    client.publish(&clusters(&["a", "b"]));
    let first = client.subscribe(Cluster, &[]).remove(0);
    client.ack(&first);
    let again = client.subscribe(Cluster, &["*", "a"]).remove(0);
    // The system version is unchanged, but the name gets a response with its resource version.
    assert_eq!(again.version, first.version);
    assert_eq!(again.to_string(), "CDS a");
    assert_ne!(again.items[0].version, again.version);
}

#[test]
fn the_version_always_matches_what_the_client_holds() {
    in_both_variants(|mut client| {
        let start = clusters(&["a", "b"]);
        client.publish(&start);
        let got = client.subscribe(Cluster, &[]);
        client.ack_all(got);
        let topologies = [
            start.clone().cluster("bad", 1),
            start.clone().cluster("bad", 1).cluster("a", 2),
            start.clone().cluster("a", 2).without(Cluster, "b"),
            start.clone().cluster("a", 2),
        ];
        for topology in &topologies {
            for got in client.publish(topology) {
                let bad = got.items.iter().any(|item| item.name == "bad");
                let more = if bad { client.nack_names(&got, &["bad"]) } else { client.ack(&got) };
                assert!(more.is_empty());
            }
        }
        let end = topologies[3].snapshot();
        let last = client.publish(&topologies[3].clone().cluster("c", 1)).remove(0);
        let sum = end.of(Cluster).version().with(topology::cluster("c", 1).version());
        assert_eq!(last.version, sum.to_string());
    });
}

#[test]
fn large_responses_sent_in_pieces_arrive_complete() {
    in_both_variants(|mut client| {
        let names: Vec<String> = (0..2000).map(|n| format!("cluster-{n:04}")).collect();
        let topology = names.iter().fold(Topology::default(), |topology, name| topology.cluster(name, 1));
        client.publish(&topology);
        let all = client.subscribe(Cluster, &[]);
        assert_eq!(all[0].items.len(), names.len());
        client.ack_all(all);
        let half: Vec<&str> = names.iter().step_by(2).map(String::as_str).collect();
        let some = client.subscribe(Endpoints, &half);
        assert_eq!(some[0].items.len(), half.len());
        client.ack_all(some);
        let snapshot = topology.snapshot();
        assert!(snapshot.of(Cluster).iter().all(|one| client.has(one)));
    });
}
