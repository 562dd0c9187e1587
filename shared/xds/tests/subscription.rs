//! Subscriptions, and the meaning of an empty list (rules 21 to 33).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/topology.rs"]
mod topology;

use client::{Client, in_both_variants, summaries};
use mesh_xds::ResourceType::{self, Cluster, Endpoints, Listener, Route};
use mesh_xds::XdsVariant::{Delta, Sotw};
use mesh_xds::client_quirks::ClientQuirks;
use topology::{Topology, clusters, some};

fn text(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Delta: subscribes and unsubscribes, exactly as said.
fn adjust(client: &mut Client, kind: ResourceType, add: &[&str], drop: &[&str]) -> Vec<client::Received> {
    client.request_delta(kind, |request| {
        request.resource_names_subscribe = text(add);
        request.resource_names_unsubscribe = text(drop);
    })
}

/// A client that accepted all that it got for these names.
fn settled(mut client: Client, kind: ResourceType, names: &[&str], topology: &Topology) -> Client {
    client.publish(topology);
    let got = client.subscribe(kind, names);
    client.ack_all(got);
    client
}

#[test]
fn c21_leaving_a_name_out_unsubscribes_it() {
    let mut client = settled(Client::new(Sotw), Endpoints, &["a", "b"], &clusters(&["a", "b"]));
    assert!(client.subscribe(Endpoints, &["b"]).is_empty());
    let changed = clusters(&["a", "b"]).endpoints("a", 2).endpoints("b", 2);
    assert_eq!(summaries(&client.publish(&changed)), ["EDS b"]);
}

#[test]
fn c22_an_empty_list_on_a_fresh_type_is_the_wildcard() {
    for kind in ResourceType::ALL {
        in_both_variants(|client| {
            let names = [("a", 1), ("b", 1)];
            let mut client = settled(client, kind, &[], &some(kind, &names));
            let all = if kind == Route { vec!["a", "b"] } else { client.holds(kind) };
            assert_eq!(all, ["a", "b"]);
            let more = some(kind, &[("a", 1), ("b", 1), ("c", 1)]);
            let got = client.publish(&more);
            client.ack_all(got);
            assert_eq!(client.holds(kind), ["a", "b", "c"], "{kind} {:?}", client.variant);
        });
    }
}

#[test]
fn c22_a_wildcard_request_for_an_empty_snapshot_gets_a_response() {
    in_both_variants(|mut client| {
        client.publish(&Topology::default());
        assert_eq!(summaries(&client.subscribe(Cluster, &[])), ["CDS"]);
    });
}

#[test]
fn c23_an_empty_list_after_a_name_is_nothing() {
    in_both_variants(|client| {
        let mut client = settled(client, Cluster, &["a"], &clusters(&["a", "b"]));
        assert!(client.subscribe(Cluster, &[]).is_empty());
        assert!(client.publish(&clusters(&["c"])).is_empty());
        assert!(client.publish(&clusters(&["a"]).cluster("a", 2)).is_empty());
    });
}

#[test]
fn c24_each_list_has_its_own_meaning() {
    let mut topology = clusters(&["a", "b"]);
    let mut client = settled(Client::new(Sotw), Cluster, &[], &topology);
    let mut edition = 1;
    let mut update = |client: &mut Client| {
        edition += 1;
        topology = topology.clone().cluster("a", edition).cluster("b", edition);
        let got = client.publish(&topology);
        summaries(&client.ack_all(got))
    };
    assert_eq!(update(&mut client), ["CDS a b"]);
    let named = client.subscribe(Cluster, &["*", "a"]);
    client.ack_all(named);
    assert_eq!(update(&mut client), ["CDS a b"]);
    assert!(client.subscribe(Cluster, &["a"]).is_empty());
    assert_eq!(update(&mut client), ["CDS a"]);
    assert!(client.subscribe(Cluster, &[]).is_empty());
    assert!(update(&mut client).is_empty());
    let again = client.subscribe(Cluster, &["*"]);
    assert_eq!(summaries(&again), ["CDS a b"]);
}

#[test]
fn c25_legacy_wildcard_and_names_come_and_go_apart() {
    let mut client = settled(Client::new(Delta), Cluster, &[], &clusters(&["a", "b"]));
    let named = adjust(&mut client, Cluster, &["a"], &[]);
    assert_eq!(summaries(&named), ["CDS a"]);
    client.ack(&named[0]);
    let both = client.publish(&clusters(&[]).cluster("a", 2).cluster("b", 2));
    assert_eq!(summaries(&both), ["CDS a b"], "the wildcard stays");
    client.ack(&both[0]);
    assert!(adjust(&mut client, Cluster, &[], &["*"]).is_empty());
    let one = client.publish(&clusters(&[]).cluster("a", 3).cluster("b", 3));
    assert_eq!(summaries(&one), ["CDS a"], "the name stays");
}

#[test]
fn c26_unsubscribing_a_name_covered_by_the_wildcard_gets_a_response() {
    let mut client = settled(Client::new(Delta), Cluster, &["*", "a", "x"], &clusters(&["a"]));
    let kept = adjust(&mut client, Cluster, &[], &["a"]);
    assert_eq!(summaries(&kept), ["CDS a"]);
    client.ack(&kept[0]);
    assert_eq!(summaries(&adjust(&mut client, Cluster, &[], &["x"])), ["CDS -x"]);
}

#[test]
fn c27_the_legacy_wildcard_can_be_switched_off() {
    for variant in [Sotw, Delta] {
        let mut client = Client::with(variant, ClientQuirks { legacy_wildcard: false });
        client.publish(&clusters(&["a"]));
        assert!(client.subscribe(Cluster, &[]).is_empty());
        assert_eq!(summaries(&client.subscribe(Cluster, &["*"])), ["CDS a"]);
    }
}

#[test]
fn c28_a_newly_named_resource_is_sent_though_unchanged() {
    let topology = clusters(&["a", "b"]);
    let mut client = settled(Client::new(Sotw), Endpoints, &["a", "b"], &topology);
    assert!(client.subscribe(Endpoints, &["b"]).is_empty());
    let again = client.subscribe(Endpoints, &["a", "b"]);
    assert_eq!(summaries(&again), ["EDS a"]);
    // The same where the wildcard had brought it.
    let mut client = settled(Client::new(Sotw), Cluster, &[], &topology);
    let named = client.subscribe(Cluster, &["*", "a"]);
    assert_eq!(summaries(&named), ["CDS a b"]);
}

#[test]
fn c29_a_name_subscribed_again_is_sent_again() {
    for (kind, names) in [(Endpoints, vec!["a", "b"]), (Cluster, vec![])] {
        let mut client = settled(Client::new(Delta), kind, &names, &clusters(&["a", "b"]));
        let again = adjust(&mut client, kind, &["a"], &[]);
        assert_eq!(summaries(&again), [format!("{kind} a")]);
        client.ack(&again[0]);
        adjust(&mut client, kind, &[], &["a"]);
        let anew = adjust(&mut client, kind, &["a"], &[]);
        assert_eq!(summaries(&anew), [format!("{kind} a")]);
    }
}

#[test]
fn c30_unsubscribing_gets_no_response() {
    let mut client = settled(Client::new(Delta), Endpoints, &["a", "b"], &clusters(&["a", "b"]));
    assert!(adjust(&mut client, Endpoints, &[], &["never", "a"]).is_empty());
    let gone = clusters(&["b"]);
    assert!(client.publish(&gone).is_empty(), "what was dropped is not told to be gone either");
    // Both in one request: what is dropped is not answered.
    assert!(adjust(&mut client, Endpoints, &["c"], &["c"]).is_empty());
}

#[test]
fn c31_a_missing_name_is_sent_once_it_exists() {
    in_both_variants(|mut client| {
        client.publish(&Topology::default());
        for (kind, existing) in [
            (Endpoints, some(Endpoints, &[("late", 1)])),
            (Route, some(Route, &[("late", 1)])),
            (Cluster, clusters(&["late"])),
            (Listener, some(Listener, &[("late", 1)])),
        ] {
            let mut client = Client::new(client.variant);
            client.publish(&Topology::default());
            let got = client.subscribe(kind, &["late"]);
            client.ack_all(got);
            let got = client.publish(&existing);
            assert_eq!(summaries(&got), [format!("{kind} late")]);
        }
    });
}

#[test]
fn c31_requests_before_the_first_snapshot_are_answered_with_it() {
    in_both_variants(|mut client| {
        assert!(client.subscribe(Endpoints, &["a"]).is_empty());
        assert!(client.subscribe(Cluster, &[]).is_empty());
        assert_eq!(summaries(&client.publish(&clusters(&["a"]))), ["CDS a", "EDS a"]);
    });
}

#[test]
fn c32_a_missing_name_is_reported_and_stays_subscribed() {
    for kind in [Cluster, Endpoints, Route, Listener] {
        let mut client = Client::new(Delta);
        client.publish(&Topology::default());
        let missing = client.subscribe(kind, &["late"]);
        assert_eq!(summaries(&missing), [format!("{kind} -late")]);
        client.ack(&missing[0]);
        assert!(client.publish(&clusters(&["other"])).is_empty());
        assert_eq!(summaries(&client.publish(&some(kind, &[("late", 1)]))), [format!("{kind} late")]);
    }
}

#[test]
fn c33_a_missing_name_is_left_out_or_times_out_at_the_client() {
    let mut client = Client::new(Sotw);
    client.publish(&clusters(&["a"]));
    // Full responses: what they leave out does not exist.
    assert_eq!(summaries(&client.subscribe(Cluster, &["a", "missing"])), ["CDS a"]);
    assert_eq!(summaries(&client.subscribe(Listener, &["missing"])), ["LDS"]);
    // Others cannot say so.
    assert!(client.subscribe(Endpoints, &["missing"]).is_empty());
    assert!(client.subscribe(Route, &["missing"]).is_empty());
}

#[test]
fn the_memory_of_a_subscription_is_bounded() {
    use mesh_xds::response::RequestOutcome;
    use mesh_xds::subscription::{SUBSCRIPTION_LIMIT, Subscription};
    let mut subscription = Subscription::default();
    subscription.update(&text(&["a", "b", "a"]), &[], true, intern);
    let two = subscription.size();
    subscription.update(&text(&["c"]), &text(&["a", "never"]), true, intern);
    assert_eq!(subscription.size(), two);
    subscription.replace(&text(&["a", "b"]), true, intern);
    assert_eq!(subscription.size(), two);
    subscription.replace(&[], true, intern);
    assert_eq!(subscription.size(), 0);

    in_both_variants(|mut client| {
        let long = "x".repeat(SUBSCRIPTION_LIMIT);
        client.subscribe(Endpoints, &["a", &long]);
        assert!(matches!(client.outcome, Some(RequestOutcome::LimitExceeded)));
    });
}

fn intern(name: &str) -> std::sync::Arc<str> {
    name.into()
}
