//! ACK, NACK and nonces (rules 10, 11 and 13 to 20).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/topology.rs"]
mod topology;

use client::{Client, in_both_variants, summaries};
use envoy_types::pb::google::rpc::Status;
use mesh_xds::ResourceType::{Cluster, Endpoints};
use mesh_xds::XdsVariant;
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
        assert!(client.nack_names(&got[0], &["bad"]).is_empty());
        assert!(client.receive_pushes().is_empty());
        // Neither because it is named, nor because something else changes, nor because the stream
        // missed a publication and looks at everything anew.
        let named = client.subscribe(Cluster, &["*", "bad"]);
        assert!(named.iter().all(|got| got.items.iter().all(|item| item.name != "bad")), "{named:?}");
        client.ack_all(named);
        assert!(client.publish(&bad.clone().secret("s", 1)).is_empty());
        let expected = [if client.is_sotw() { "CDS a bad" } else { "CDS a" }];
        for edition in [2, 3] {
            client.publish_unnoticed(&bad);
            let other = client.publish(&bad.clone().cluster("a", edition));
            assert_eq!(summaries(&other), expected);
            if client.is_sotw() {
                client.nack_names(&other[0], &["bad"]);
            } else {
                client.ack_all(other);
            }
        }
        let corrected = client.publish(&bad.clone().cluster("a", 3).cluster("bad", 2));
        assert!(corrected[0].items.iter().any(|item| item.name == "bad"), "{corrected:?}");
    });
}

#[test]
fn c11_a_rejected_state_of_the_world_is_sent_again_when_its_type_changes() {
    let mut client = Client::new(XdsVariant::Sotw);
    client.publish(&clusters(&["a", "bad"]));
    let got = client.subscribe(Cluster, &[]);
    assert!(client.nack(&got[0], "no").is_empty());
    assert!(client.publish(&clusters(&["a", "bad"]).secret("s", 1)).is_empty(), "another type changed");
    // A full response cannot leave the rejected version out: that would delete what the client has in its place.
    let next = client.publish(&clusters(&["a", "b", "bad"]));
    assert_eq!(summaries(&next), ["CDS a b bad"]);
    client.ack_all(next);
    client.stream.stop_awaiting_eds();
    assert_eq!(client.stream.status(), SyncStatus::Synced(3));
}

#[test]
fn c11_a_version_rejected_alone_is_not_sent_again_even_if_requested() {
    let mut client = Client::new(XdsVariant::Delta);
    client.publish(&clusters(&["a"]));
    let first = client.subscribe(Cluster, &[]);
    client.ack_all(first);
    let got = client.publish(&clusters(&["a"]).cluster("a", 2));
    client.nack(&got[0], "no");
    let again = client.request_delta(Cluster, |request| {
        request.resource_names_subscribe = vec!["a".to_owned()];
    });
    assert!(again.is_empty(), "neither the rejected version, nor a removal: {again:?}");
    assert_eq!(client.stream.status(), SyncStatus::Rejected(2));
}

#[test]
fn c11_versions_rejected_together_are_sent_once_more_each_alone_after_one_of_them_changed() {
    let mut client = Client::new(XdsVariant::Delta);
    client.publish(&clusters(&["bad", "good", "other"]));
    let got = client.subscribe(Cluster, &[]);
    assert!(client.nack(&got[0], "no").is_empty());
    // Another resource continues.
    let more = client.publish(&clusters(&["bad", "good", "more", "other"]));
    assert_eq!(summaries(&more), ["CDS more"]);
    assert!(client.ack(&more[0]).is_empty());
    assert_eq!(client.stream.status(), SyncStatus::Rejected(2));
    // The change is sent first. The answers then tell which of the others the client rejects.
    let changed = client.publish(&clusters(&["bad", "more", "other"]).cluster("good", 2));
    assert_eq!(summaries(&changed), ["CDS good"]);
    let bad = client.ack(&changed[0]);
    assert_eq!(summaries(&bad), ["CDS bad"]);
    let other = client.nack(&bad[0], "no");
    assert_eq!(summaries(&other), ["CDS other"]);
    assert!(client.ack(&other[0]).is_empty());
    assert_eq!(client.stream.status(), SyncStatus::Rejected(3), "bad is withheld");
    let fixed = client.publish(&clusters(&["more", "other"]).cluster("good", 2).cluster("bad", 2));
    assert_eq!(summaries(&fixed), ["CDS bad"]);
    client.ack_all(fixed);
    client.stream.stop_awaiting_eds();
    assert_eq!(client.stream.status(), SyncStatus::Synced(4));
}

#[test]
fn c11_the_memory_of_a_rejection_ends_with_the_stream() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["a"]));
        let first = client.subscribe(Cluster, &[]);
        client.ack_all(first);
        let got = client.publish(&clusters(&["a", "bad"]));
        client.nack(&got[0], "no");
        client.reconnect();
        let again = client.resume(Cluster);
        assert_eq!(summaries(&again), [if client.is_sotw() { "CDS a bad" } else { "CDS bad" }]);
    });
}

#[test]
fn c13_a_nack_may_carry_the_current_version() {
    let mut client = Client::new(XdsVariant::Sotw);
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
    let Some(RequestOutcome::Nack { message, rejected: Some(rejected) }) = &client.outcome else {
        panic!("{:?}", client.outcome)
    };
    assert_eq!((message.as_str(), &*rejected.names[0]), ("bad is bad", "bad"));
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
        assert_eq!(summaries(&more), [if client.is_sotw() { "CDS bad good other" } else { "CDS other" }]);
        client.ack_all(more);
        assert!(client.holds(Cluster).contains(&"good"));
        // The server does not know whether the client has it, so its removal is sent.
        let removed = client.publish(&clusters(&["bad", "other"]));
        client.ack_all(removed);
        assert!(!client.holds(Cluster).contains(&"good"));
    });
}

#[test]
fn a_nack_is_about_the_whole_response_whatever_its_message_says() {
    // Envoy's messages start like this one, and a cluster may be named `cluster`.
    let message = "Error adding/updating cluster(s) payments: invalid";
    in_both_variants(|mut client| {
        let topology = clusters(&["cluster", "orders", "payments"]);
        client.publish(&topology);
        let got = client.subscribe(Cluster, &[]);
        client.nack(&got[0], message);
        let Some(RequestOutcome::Nack { message: recorded, rejected: Some(rejected) }) = &client.outcome
        else {
            panic!("{:?}", client.outcome)
        };
        let mut names: Vec<&str> = rejected.names.iter().map(|name| &**name).collect();
        names.sort_unstable();
        assert_eq!((recorded.as_str(), names), (message, vec!["cluster", "orders", "payments"]));
        // The next responses are the same for every message.
        let mut other = Client::new(client.variant);
        other.publish(&topology);
        let got = other.subscribe(Cluster, &[]);
        other.nack(&got[0], "");
        let next = topology.clone().cluster("new", 1).cluster("orders", 2);
        let (got, expected) = (client.publish(&next), other.publish(&next));
        assert_eq!(summaries(&client.ack_all(got)), summaries(&other.ack_all(expected)));
    });
}

#[test]
fn c16_a_correction_after_a_nack_is_sent_immediately() {
    in_both_variants(|mut client| {
        client.publish(&clusters(&["bad", "good"]));
        let got = client.subscribe(Cluster, &[]);
        client.nack(&got[0], "bad: no");
        let corrected = client.publish(&clusters(&["good"]).cluster("bad", 2));
        assert_eq!(summaries(&corrected), [if client.is_sotw() { "CDS bad good" } else { "CDS bad" }]);
        // The client may have rejected the good one only because of the other.
        client.ack_all(corrected);
        assert_eq!(client.holds(Cluster), ["bad", "good"]);
        client.stream.stop_awaiting_eds();
        assert_eq!(client.stream.status(), SyncStatus::Synced(2));
    });
}

#[test]
fn returning_to_the_accepted_version_needs_no_response() {
    in_both_variants(|mut client| {
        let good = clusters(&["a", "b"]);
        client.publish(&good);
        let first = client.subscribe(Cluster, &[]);
        client.ack_all(first);
        let got = client.publish(&good.clone().cluster("b", 9));
        client.nack(&got[0], "no");
        assert_eq!(client.stream.status(), SyncStatus::Rejected(2));
        assert!(client.publish(&good).is_empty(), "the client still has it");
        client.stream.stop_awaiting_eds();
        assert_eq!(client.stream.status(), SyncStatus::Synced(3));
    });
}

#[test]
fn c17_a_stale_nonce_gets_no_response() {
    let mut client = Client::new(XdsVariant::Sotw);
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
    let mut client = Client::new(XdsVariant::Sotw);
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
    let mut client = Client::new(XdsVariant::Sotw);
    client.subscribe(Endpoints, &["a"]);
    client.subscribe(Endpoints, &["b"]);
    let got = client.publish(&clusters(&["a", "b"]));
    assert_eq!(summaries(&got), ["EDS b"]);
}

#[test]
fn c19_a_delta_request_with_a_stale_nonce_still_counts() {
    let mut client = Client::new(XdsVariant::Delta);
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
    let mut client = Client::new(XdsVariant::Delta);
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
    let mut client = Client::new(XdsVariant::Delta);
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
