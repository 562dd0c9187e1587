//! Make before break, and that every wait for it ends (rules 44 to 48).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/topology.rs"]
mod topology;

use client::{Client, in_both_variants, summaries};
use mesh_xds::ResourceType::{Cluster, Endpoints, Listener, Route, Secret};
use mesh_xds::XdsVariant::Sotw;
use mesh_xds::client_quirks::ClientQuirks;
use mesh_xds::publication::SyncStatus;
use topology::{Topology, clusters, web};

#[test]
fn c44_updates_go_clusters_endpoints_listeners_routes() {
    in_both_variants(|mut client| {
        client.start_like_envoy(&web());
        let all =
            web().cluster("be", 2).endpoints("be", 2).listener("web", 2, "paths").route("paths", 2, &["be"]);
        let first = client.publish(&all);
        assert_eq!(summaries(&first), ["CDS be", "EDS be"], "endpoints may follow at once");
        assert!(client.ack(&first[0]).is_empty(), "the endpoints are not accepted yet");
        let second = client.ack(&first[1]);
        assert_eq!(summaries(&second), ["LDS web"]);
        let third = client.ack(&second[0]);
        assert_eq!(summaries(&third), ["RDS paths"]);
        assert!(client.ack(&third[0]).is_empty());
    });
}

#[test]
fn c45_removals_go_last() {
    in_both_variants(|mut client| {
        client.start_like_envoy(&web());
        let swapped =
            Topology::default().cluster("new", 1).route("paths", 2, &["new"]).listener("web", 1, "paths");
        let made = client.publish(&swapped);
        assert_eq!(summaries(&made), [if client.is_sotw() { "CDS be new" } else { "CDS new" }]);
        let asked = client.subscribe(Endpoints, &["be", "new"]);
        assert_eq!(summaries(&asked), ["EDS new"]);
        assert!(client.ack(&made[0]).is_empty());
        let routed = client.ack(&asked[0]);
        assert_eq!(summaries(&routed), ["RDS paths"], "and nothing is broken before its answer");
        let broken = client.ack(&routed[0]);
        if client.is_sotw() {
            assert_eq!(summaries(&broken), ["CDS new"]);
        } else {
            assert_eq!(summaries(&broken), ["CDS -be"]);
            assert_eq!(summaries(&client.ack(&broken[0])), ["EDS -be"]);
        }
    });
}

#[test]
fn c45_a_cluster_stays_while_the_client_rejects_the_route_that_leaves_it() {
    in_both_variants(|mut client| {
        client.start_like_envoy(&web());
        let swapped = clusters(&["new"]).route("paths", 2, &["new"]).listener("web", 1, "paths");
        let got = client.publish(&swapped);
        client.subscribe(Endpoints, &["be", "new"]);
        let mut queue = got;
        let stream = client.types[Endpoints].unanswered.clone();
        for nonce in stream {
            queue.push(client::Received {
                nonce,
                version: String::new(),
                kind: Endpoints,
                items: vec![],
                removed: vec![],
            });
        }
        while let Some(got) = queue.pop() {
            queue.extend(if got.kind == Route { client.nack(&got, "paths: no") } else { client.ack(&got) });
        }
        assert!(client.holds(Cluster).contains(&"be"), "its old route leads there");
        let corrected = swapped.clone().route("paths", 3, &["new"]);
        let got = client.publish(&corrected);
        client.ack_all(got);
        assert_eq!(client.holds(Cluster), ["new"]);
    });
}

#[test]
fn c46_a_changed_cluster_has_its_endpoints_sent_again() {
    in_both_variants(|mut client| {
        client.start_like_envoy(&web().cluster("other", 1));
        let got = client.publish(&web().cluster("other", 1).cluster("be", 2));
        let expected = if client.is_sotw() { ["CDS be other", "EDS be"] } else { ["CDS be", "EDS be"] };
        assert_eq!(summaries(&got), expected);
    });
}

#[test]
fn c46_envoys_request_with_the_old_nonce_after_a_changed_cluster_loses_nothing() {
    let mut client = Client::new(Sotw);
    client.start_like_envoy(&web());
    let old = client.types[Endpoints].nonce.clone();
    let got = client.publish(&web().cluster("be", 2).cluster("new", 1));
    assert_eq!(summaries(&got), ["CDS be new", "EDS be"]);
    // It has read the clusters only, and asks for the endpoints of both.
    client.types[Endpoints].nonce = old;
    assert!(client.subscribe(Endpoints, &["be", "new"]).is_empty());
    assert!(client.ack(&got[0]).is_empty());
    // Its answer to the endpoints repeats what it wants.
    assert_eq!(summaries(&client.ack(&got[1])), ["EDS new"]);
}

#[test]
fn c46_a_new_listener_comes_before_its_routes_and_both_after_their_cluster() {
    in_both_variants(|mut client| {
        client.start_like_envoy(&web());
        let more = web().cluster("be2", 1).route("paths2", 1, &["be2"]).listener("web2", 1, "paths2");
        let made = client.publish(&more);
        assert_eq!(made.len(), 1);
        let mut got = client.subscribe(Endpoints, &["be", "be2"]);
        got.extend(client.ack(&made[0]));
        let mut next = client.ack(&got[0]);
        assert_eq!(next[0].kind, Listener);
        // Envoy keeps the new listener warm until its routes come; it asks before it accepts.
        let routes = client.subscribe(Route, &["paths", "paths2"]);
        assert_eq!(summaries(&routes), ["RDS paths2"]);
        next.extend(routes);
        client.ack_all(next);
        assert_eq!(client.stream.status(), SyncStatus::Synced(2));
    });
}

#[test]
fn c46_a_requested_route_waits_for_its_cluster_that_is_about_to_be_sent() {
    let mut client = Client::new(Sotw);
    client.start_like_envoy(&web());
    let first = client.publish(&web().cluster("be", 2));
    // Clusters are in flight, so the new one has to wait; a route to it must not overtake it.
    let more = web().cluster("be", 2).cluster("be2", 1).route("paths2", 1, &["be2"]);
    assert!(client.publish(&more).is_empty());
    assert!(client.subscribe(Route, &["paths", "paths2"]).is_empty());
    let next = client.ack(&first[0]);
    assert_eq!(summaries(&next), ["CDS be be2", "RDS paths2"]);
}

#[test]
fn c47_an_update_of_a_name_unsubscribed_in_the_meantime_is_dropped() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["a", "b"]));
        let first = client.subscribe(Endpoints, &["a", "b"]).remove(0);
        let changed = clusters(&["a", "b"]).endpoints("a", 2).endpoints("b", 2);
        assert!(client.publish(&changed).is_empty(), "waits for the answer");
        if client.is_sotw() {
            // One request: it accepts, and wants less.
            client.types[Endpoints].names.remove("a");
        } else {
            client.subscribe(Endpoints, &["b"]);
        }
        assert_eq!(summaries(&client.ack(&first)), ["EDS b"]);
    });
}

#[test]
fn c48_a_request_that_names_part_of_what_exists_is_answered() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["a", "b", "c"]));
        let got = client.subscribe(Endpoints, &["b", "missing"]);
        assert_eq!(summaries(&got), [if client.is_sotw() { "EDS b" } else { "EDS b -missing" }]);
        assert_eq!(summaries(&client.subscribe(Cluster, &["c"])), ["CDS c"]);
    });
}

#[test]
fn a_rejected_cluster_holds_up_only_resources_that_refer_to_it() {
    in_both_variants(|mut client| {
        let topology = web().cluster("be2", 1).route("paths2", 1, &["be2"]).listener("web2", 1, "paths2");
        client.start_like_envoy(&topology);
        let bad = topology.clone().cluster("bad", 1).route("paths", 2, &["bad"]).route("paths2", 2, &["be2"]);
        let got = client.publish(&bad);
        // It is not asked for endpoints: the client has no such cluster.
        let mut next = client.nack_names(&got[0], &["bad"]);
        client.stream.stop_awaiting_eds();
        next.extend(client.receive_pushes());
        assert_eq!(summaries(&next), ["RDS paths2"]);
        client.ack_all(next);
        let got = client.publish(&bad.cluster("bad", 2));
        client.subscribe(Endpoints, &["bad", "be", "be2"]);
        let nonce = client.types[Endpoints].unanswered[0].clone();
        let endpoints = client::Received {
            kind: Endpoints,
            nonce,
            version: String::new(),
            items: vec![],
            removed: vec![],
        };
        client.ack(&got[0]);
        assert_eq!(summaries(&client.ack(&endpoints)), ["RDS paths"]);
    });
}

#[test]
fn steady_route_updates_do_not_keep_a_removed_cluster_forever() {
    in_both_variants(|mut client| {
        let with_old = web().cluster("old", 1);
        client.start_like_envoy(&with_old);
        // Routes change so often that there is always one in flight.
        let mut flying = client.publish(&with_old.clone().route("paths", 2, &["be"]));
        for edition in 3..6 {
            let got = client.publish(&web().route("paths", edition, &["be"]));
            flying.extend(client.ack_all(got).into_iter().filter(|got| got.kind == Route));
            let route = flying.remove(0);
            flying.extend(client.ack(&route));
        }
        assert_eq!(client.holds(Cluster), ["be"]);
    });
}

#[test]
fn a_client_that_has_its_endpoints_from_elsewhere_times_out_once() {
    in_both_variants(|mut client| {
        client.publish(&web());
        let got = client.subscribe(Cluster, &[]);
        client.ack_all(got);
        assert!(client.stream.is_awaiting_eds(), "it could still ask");
        assert_eq!(client.stream.status(), SyncStatus::Pending);
        client.stream.stop_awaiting_eds();
        assert_eq!(client.stream.status(), SyncStatus::Synced(1));
        let got = client.publish(&web().cluster("be", 2));
        client.ack_all(got);
        assert!(!client.stream.is_awaiting_eds());
        assert_eq!(client.stream.status(), SyncStatus::Synced(2));
    });
}

#[test]
fn a_client_that_subscribes_from_listener_to_endpoints_never_waits() {
    // As gRPC does: by names, each only once what refers to it has come.
    for variant in [mesh_xds::XdsVariant::Sotw, mesh_xds::XdsVariant::Delta] {
        let mut client = Client::with(variant, ClientQuirks { legacy_wildcard: false });
        client.publish(&web());
        for (kind, name) in [(Listener, "web"), (Route, "paths"), (Cluster, "be"), (Endpoints, "be")] {
            let got = client.subscribe(kind, &[name]);
            assert_eq!(summaries(&got), [format!("{kind} {name}")]);
            client.ack_all(got);
        }
        let swapped = clusters(&["new"]).route("paths", 2, &["new"]).listener("web", 1, "paths");
        let got = client.publish(&swapped);
        assert_eq!(summaries(&got), ["RDS paths"], "it will ask for the new cluster when it knows of it");
        let mut next = client.subscribe(Cluster, &["be", "new"]);
        next.extend(client.ack(&got[0]));
        next.extend(client.subscribe(Endpoints, &["be", "new"]));
        client.ack_all(next);
        let mut last = client.subscribe(Cluster, &["new"]);
        last.extend(client.subscribe(Endpoints, &["new"]));
        client.ack_all(last);
        assert_eq!((client.holds(Cluster), client.holds(Endpoints)), (vec!["new"], vec!["new"]));
        assert_eq!(client.stream.status(), SyncStatus::Synced(2));
    }
}

#[test]
fn listeners_wait_for_the_answer_to_secrets_until_the_time_limit() {
    in_both_variants(|mut client| {
        client.start_like_envoy(&web().secret("s", 1));
        let got = client.subscribe(Secret, &["s"]);
        client.ack_all(got);
        assert_eq!(client.stream.awaited_secrets(), None);
        let got = client.publish(&web().secret("s", 2).listener("web", 2, "paths"));
        assert_eq!(summaries(&got), ["SDS s"]);
        assert_eq!(
            client.stream.awaited_secrets().map(|nonce| nonce.to_string()).as_ref(),
            Some(&got[0].nonce)
        );
        client.stream.stop_awaiting_secrets();
        let next = client.receive_pushes();
        assert_eq!(summaries(&next), ["LDS web"]);
        client.ack_all(next);
        assert_eq!(client.stream.status(), SyncStatus::Pending, "the secret is still unanswered");
        // The next response with secrets has its own time limit.
        client.ack(&got[0]);
        let got = client.publish(&web().secret("s", 3).listener("web", 3, "paths"));
        assert_eq!(summaries(&got), ["SDS s"]);
        assert!(client.stream.awaited_secrets().is_some());
        assert_eq!(summaries(&client.ack(&got[0])), ["LDS web"]);
    });
}

#[test]
fn a_route_waits_until_its_own_client_accepted_the_cluster() {
    in_both_variants(|mut client| {
        client.start_like_envoy(&web());
        let more = web().cluster("new", 1).cluster("other", 1).route("paths", 2, &["new"]);
        let got = client.publish(&more);
        client.nack(&got[0], "no");
        client.stream.stop_awaiting_eds();
        assert!(client.receive_pushes().is_empty(), "it may lack the new cluster");
        let fixed = client.publish(&more.cluster("other", 2));
        let mut next = client.ack_all(fixed);
        client.stream.stop_awaiting_eds();
        let got = client.receive_pushes();
        next.extend(client.ack_all(got));
        assert_eq!(next.last().unwrap().to_string(), "RDS paths");
        assert!(client.holds(Cluster).contains(&"new"));
    });
}
