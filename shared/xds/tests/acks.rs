//! ACK, NACK and nonces (rules 10, 11 and 13 to 20).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/topology.rs"]
mod topology;

use client::{Client, in_both_variants, summaries};
use envoy_types::pb::google::rpc::Status;
use mesh_xds::ResourceType::{Cluster, Endpoints, Route};
use mesh_xds::publication::SyncStatus;
use mesh_xds::response::RequestOutcome;
use topology::{Topology, clusters, some};

fn error(message: &str) -> Option<Status> {
    Some(Status { message: message.to_owned(), ..Status::default() })
}

#[test]
fn c10_only_an_error_detail_makes_a_nack() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["a"]));
        let first = client.subscribe(Cluster, &[]).remove(0);
        let nonce = first.nonce.clone();
        if client.is_sotw() {
            // The version is not the response's, as in a refusal; but nothing is complained about.
            client.request_sotw(Cluster, |request| request.response_nonce = nonce);
        } else {
            client.request_delta(Cluster, |request| request.response_nonce = nonce);
        }
        assert!(
            matches!(client.outcome, Some(RequestOutcome::Ack { subscribes: false, .. })),
            "{:?}",
            client.outcome
        );

        let second = client.publish(&clusters(&["a", "b"])).remove(0);
        let (nonce, version) = (second.nonce.clone(), second.version.clone());
        if client.is_sotw() {
            client.request_sotw(Cluster, |request| {
                (request.response_nonce, request.version_info) = (nonce, version);
                request.error_detail = error("");
            });
        } else {
            client.request_delta(Cluster, |request| {
                (request.response_nonce, request.error_detail) = (nonce, error(""));
            });
        }
        assert!(matches!(client.outcome, Some(RequestOutcome::Nack { .. })), "{:?}", client.outcome);
        assert_eq!(client.stream.status(), SyncStatus::Rejected(2));
    });
}

#[test]
fn c11_nacked_version_is_not_resent() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["a"]));
        let first = client.subscribe(Cluster, &[]);
        client.ack_all(first);
        let bad = clusters(&["a"]).cluster("bad", 1);
        let got = client.publish(&bad);
        assert!(client.nack(&got[0], "bad: no").is_empty());
        assert!(client.receive_pushes().is_empty());
        // Neither because it is named, nor because something else changes, nor because the stream
        // missed a publication and looks at everything anew.
        let named = client.subscribe(Cluster, &["*", "bad"]);
        assert!(named.iter().all(|got| got.items.iter().all(|item| item.name != "bad")), "{named:?}");
        client.ack_all(named);
        let other = client.publish(&bad.clone().cluster("a", 2));
        assert_eq!(summaries(&other), ["CDS a"]);
        client.ack_all(other);
        client.publish_unnoticed(&bad);
        let missed = client.publish(&bad.clone().cluster("a", 3));
        assert_eq!(summaries(&missed), ["CDS a"]);
        client.ack_all(missed);
        let corrected = client.publish(&bad.clone().cluster("a", 3).cluster("bad", 2));
        assert!(corrected[0].items.iter().any(|item| item.name == "bad"), "{corrected:?}");
    });
}

#[test]
fn c11_a_version_that_the_group_rejected_is_not_sent_to_a_reconnecting_client() {
    in_both_variants(|mut client| {
        client.quarantines = true;
        let good = clusters(&["a", "b"]).endpoints("a", 2);
        client.publish(&good);
        let first = client.subscribe(Cluster, &[]);
        client.ack_all(first);
        let got = client.publish(&good.clone().cluster("b", 2));
        client.nack_names(&got[0], &["b"]);
        assert_eq!(client.holds(Cluster), ["a", "b"], "it keeps the b that it had");
        for accepted in [client.quarantine.accepted.clone(), None] {
            client.quarantine.accepted = accepted;
            client.reconnect();
            assert!(client.resume(Cluster).is_empty(), "a full answer without b would delete b");
        }
        let fixed = client.publish(&good.clone().cluster("b", 3));
        client.ack_all(fixed);
        assert!(client.has(&topology::cluster("a", 1)) && client.has(&topology::cluster("b", 3)));
    });
}

#[test]
fn c11_the_last_accepted_version_replaces_a_rejected_one_unless_its_references_are_missing() {
    in_both_variants(|mut client| {
        client.quarantines = true;
        let good = clusters(&["a", "b"]).route("r", 1, &["a"]).listener("l", 1, "r");
        client.start_like_envoy(&good);
        let refused = good.clone().route("r", 9, &["b"]);
        let got = client.publish(&refused);
        assert_eq!(summaries(&got), ["RDS r"]);
        client.nack(&got[0], "r: no");

        let newcomer = |topology: &topology::Topology| {
            let mut newcomer = Client::new(client.variant);
            newcomer.quarantine = client.quarantine.clone();
            newcomer.start_like_envoy(topology);
            newcomer
        };
        assert!(newcomer(&refused).has(&topology::route("r", 1, &["a".to_owned()])));
        // The route that was accepted leads to a cluster which the refused topology no longer has.
        let without = refused.without(Cluster, "a");
        assert!(newcomer(&without).holds(Route).is_empty());
    });
}

#[test]
fn c11_the_last_accepted_version_may_refer_to_an_external_cluster() {
    in_both_variants(|mut client| {
        client.quarantines = true;
        let good = clusters(&["b"]).external(&["own"]).route("r", 1, &["own"]).listener("l", 1, "r");
        client.start_like_envoy(&good);
        let refused = good.clone().route("r", 9, &["b"]);
        let got = client.publish(&refused);
        client.nack(&got[0], "r: no");
        let mut newcomer = Client::new(client.variant);
        newcomer.quarantine = client.quarantine.clone();
        newcomer.start_like_envoy(&refused);
        assert!(newcomer.has(&topology::route("r", 1, &["own".to_owned()])));
    });
}

#[test]
fn c13_a_nack_may_carry_the_current_version() {
    let mut client = Client::new(mesh_xds::XdsVariant::Sotw);
    client.publish(&some(Endpoints, &[("a", 1), ("bad", 1)]));
    let first = client.subscribe(Endpoints, &["a"]);
    client.ack_all(first);
    let got = client.subscribe(Endpoints, &["a", "bad"]).remove(0);
    assert_eq!(summaries(std::slice::from_ref(&got)), ["EDS bad"]);
    let (version, nonce) = (got.version.clone(), got.nonce.clone());
    let answer = client.request_sotw(Endpoints, |request| {
        (request.version_info, request.response_nonce) = (version, nonce);
        request.error_detail = error("bad is bad");
    });
    assert!(answer.is_empty());
    let Some(RequestOutcome::Nack { message, blame }) = &client.outcome else {
        panic!("{:?}", client.outcome)
    };
    assert_eq!((message.as_str(), &**blame.suspects[0].name()), ("bad is bad", "bad"));
}

#[test]
fn c14_an_ack_alone_triggers_no_response() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["a", "b"]));
        for (kind, names) in [(Cluster, vec![]), (Endpoints, vec!["a", "b"])] {
            let got = client.subscribe(kind, &names);
            assert_eq!(got.len(), 1);
            assert!(client.ack(&got[0]).is_empty());
            assert!(client.ack(&got[0]).is_empty(), "nor does one that is said twice");
        }
        assert_eq!(client.stream.status(), SyncStatus::Synced(1));
    });
}

#[test]
fn c15_the_good_resources_of_a_nacked_response_stay() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["bad", "good"]));
        let got = client.subscribe(Cluster, &[]);
        client.nack_names(&got[0], &["bad"]);
        assert_eq!(client.holds(Cluster), ["good"]);
        // A full response without the good one would delete it.
        let more = client.publish(&clusters(&["bad", "good", "other"]));
        assert_eq!(summaries(&more), [if client.is_sotw() { "CDS good other" } else { "CDS other" }]);
        client.ack_all(more);
        assert_eq!(client.holds(Cluster), ["good", "other"]);
    });
}

#[test]
fn c15_only_resources_that_the_message_names_as_a_word_are_blamed() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["be", "be-2", "be_3"]));
        let got = client.subscribe(Cluster, &[]);
        client.nack(&got[0], "Error adding cluster(s) be-2: too short");
        let Some(RequestOutcome::Nack { blame, .. }) = &client.outcome else {
            panic!("{:?}", client.outcome)
        };
        assert_eq!(blame.suspects.iter().map(|one| &**one.name()).collect::<Vec<_>>(), ["be-2"]);
        assert!(blame.certain);
    });
}

#[test]
fn c16_a_correction_after_a_nack_is_sent_immediately() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["bad", "good"]));
        let got = client.subscribe(Cluster, &[]);
        client.nack(&got[0], "bad: no");
        let corrected = client.publish(&clusters(&["good"]).cluster("bad", 2));
        // The client may have refused the good one along with it.
        assert_eq!(summaries(&corrected), ["CDS bad good"]);
        client.ack_all(corrected);
        assert_eq!(client.holds(Cluster), ["bad", "good"]);
        assert!(!matches!(client.stream.status(), SyncStatus::Rejected(_)));
    });
}

#[test]
fn c16_if_the_message_names_no_resource_all_are_suspects_until_one_is_corrected() {
    in_both_variants(|mut client| {
        client.quarantines = true;
        client.publish(&clusters(&["x", "y"]));
        let got = client.subscribe(Cluster, &[]);
        assert!(client.nack(&got[0], "something is wrong").is_empty());
        assert!(client.quarantine.versions.is_empty(), "a suspect is not kept from others");
        let corrected = client.publish(&clusters(&["x"]).cluster("y", 2));
        assert_eq!(summaries(&corrected), ["CDS x y"]);
    });
}

#[test]
fn c17_a_stale_nonce_gets_no_response() {
    let mut client = Client::new(mesh_xds::XdsVariant::Sotw);
    client.publish(&clusters(&["a", "b"]));
    let first = client.subscribe(Endpoints, &["a"]).remove(0);
    client.ack(&first);
    let second = client.publish(&clusters(&["a", "b"]).endpoints("a", 2)).remove(0);
    let late = client.request_sotw(Endpoints, |request| {
        request.response_nonce = first.nonce.clone();
        request.resource_names = vec!["a".to_owned(), "b".to_owned()];
    });
    assert!(late.is_empty(), "{late:?}");
    assert!(matches!(client.outcome, Some(RequestOutcome::Stale)));
    // It did not count as an answer to the second response either.
    assert!(client.publish(&clusters(&["a", "b"]).endpoints("a", 3)).is_empty());
    assert_eq!(summaries(&client.ack(&second)), ["EDS a"]);
}

#[test]
fn c17_a_name_dropped_and_subscribed_again_in_the_meantime_is_sent_again() {
    let mut client = Client::new(mesh_xds::XdsVariant::Sotw);
    client.publish(&clusters(&["a", "b"]));
    let first = client.subscribe(Endpoints, &["a", "b"]);
    client.ack_all(first);
    let second = client.publish(&clusters(&["a", "b"]).endpoints("b", 2)).remove(0);
    // Both requests cross the response, and do not count; but the client has let go of a.
    assert!(client.subscribe(Endpoints, &["b"]).is_empty());
    assert!(client.subscribe(Endpoints, &["a", "b"]).is_empty());
    assert_eq!(summaries(&client.ack(&second)), ["EDS a"]);
}

#[test]
fn c18_the_newest_request_supersedes_older_ones() {
    let mut client = Client::new(mesh_xds::XdsVariant::Sotw);
    client.subscribe(Endpoints, &["a"]);
    client.subscribe(Endpoints, &["b"]);
    let got = client.publish(&clusters(&["a", "b"]));
    assert_eq!(summaries(&got), ["EDS b"]);
}

#[test]
fn c19_a_delta_request_with_a_stale_nonce_still_counts() {
    let mut client = Client::new(mesh_xds::XdsVariant::Delta);
    client.publish(&clusters(&["a", "b"]));
    let first = client.subscribe(Endpoints, &["a"]).remove(0);
    client.ack(&first);
    let second = client.publish(&clusters(&["a", "b"]).endpoints("a", 2)).remove(0);
    let late = client.request_delta(Endpoints, |request| {
        request.response_nonce = first.nonce.clone();
        request.resource_names_subscribe = vec!["b".to_owned()];
        request.resource_names_unsubscribe = vec!["a".to_owned()];
    });
    assert_eq!(summaries(&late), ["EDS b"]);
    client.ack(&second);
    client.ack(&late[0]);
    let topology = clusters(&["a", "b"]).endpoints("a", 3).endpoints("b", 3);
    assert_eq!(summaries(&client.publish(&topology)), ["EDS b"], "a was dropped");
}

#[test]
fn c20_a_spontaneous_request_carries_no_nonce_and_answers_nothing() {
    let mut client = Client::new(mesh_xds::XdsVariant::Delta);
    client.publish(&clusters(&["a", "b"]));
    let first = client.subscribe(Endpoints, &["a"]).remove(0);
    let more = client.subscribe(Endpoints, &["a", "b"]);
    assert_eq!(summaries(&more), ["EDS b"]);
    assert!(matches!(client.outcome, Some(RequestOutcome::Subscription)));
    let changed = clusters(&["a", "b"]).endpoints("a", 2);
    assert!(client.publish(&changed).is_empty(), "two responses wait for their answers");
    assert!(client.ack(&first).is_empty(), "one still does");
    assert_eq!(summaries(&client.ack(&more[0])), ["EDS a"]);
}

#[test]
fn a_nack_of_a_replaced_response_does_not_affect_the_newer_one() {
    let mut client = Client::new(mesh_xds::XdsVariant::Delta);
    client.publish(&some(Endpoints, &[("a", 1), ("b", 1)]));
    let first = client.subscribe(Endpoints, &["a"]).remove(0);
    client.stream.on_publication(published(2, &some(Endpoints, &[("a", 2), ("b", 1)])));
    let second = client.subscribe(Endpoints, &["a", "b"]).remove(0);
    client.nack(&first, "a: no");
    client.ack(&second);
    // The client took the second a; that it refused the first must not make the server forget it.
    client.stream.on_publication(published(3, &Topology::default()));
    assert_eq!(summaries(&client.receive_pushes()), ["EDS -a -b"]);
}

fn published(seq: u64, topology: &Topology) -> std::sync::Arc<mesh_xds::publication::Publication> {
    let snapshot = topology.snapshot();
    let everything = mesh_xds::Snapshot::default();
    let changes = snapshot.changes_since(&everything);
    // A gap in the numbers: the stream has to look at everything.
    std::sync::Arc::new(mesh_xds::publication::Publication { seq: seq * 10, snapshot, changes })
}

#[test]
fn a_client_that_rejects_everything_is_not_sent_the_same_forever() {
    in_both_variants(|mut client| {
        let old = topology::web();
        client.start_like_envoy(&old);
        let new = clusters(&["new"]).route("paths", 2, &["new"]).listener("web", 2, "paths");
        let mut queue = client.publish(&new);
        queue.extend(client.publish(&new.clone().cluster("more", 1)));
        // It asks again for the cluster that waits to be taken away, too.
        queue.extend(client.subscribe(Cluster, &["*", "be"]));
        let mut refused = 0;
        while let Some(got) = queue.pop() {
            refused += 1;
            assert!(refused < 20, "it is sent the same for ever: {got}");
            queue.extend(client.nack(&got, "no"));
        }
        // Only rejected resources wait. A correction releases them.
        let fixed = clusters(&["fixed"]).route("paths", 3, &["fixed"]).listener("web", 3, "paths");
        let got = client.publish(&fixed);
        let mut queue = client.ack_all(got);
        queue.clear();
        let got = client.subscribe(Endpoints, &["be", "fixed"]);
        client.ack_all(got);
        assert!(
            client.has(&topology::cluster("fixed", 1)) && client.has(&topology::listener("web", 3, "paths"))
        );
    });
}

#[test]
fn a_name_dropped_while_its_response_is_in_flight_does_not_come_back_with_the_nack() {
    in_both_variants(|mut client| {
        let topology = clusters(&["a", "b"]);
        client.publish(&topology);
        let got = client.subscribe(Cluster, &["a", "b"]);
        client.ack_all(got);
        let got = client.publish(&topology.clone().cluster("a", 2).cluster("b", 2));
        // The drop and the refusal are one request in one variant, two in the other.
        if client.is_sotw() {
            client.types[Cluster].names.remove("a");
        } else {
            client.subscribe(Cluster, &["b"]);
        }
        client.nack(&got[0], "no");
        let next = client.publish(&topology.clone().cluster("a", 3).cluster("b", 3));
        assert_eq!(summaries(&next), ["CDS b"]);
    });
}
