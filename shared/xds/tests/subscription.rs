//! What a client subscribes to, and what an empty list means (rules 21 to 33).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/world.rs"]
mod world;

use client::{Client, both, told};
use mesh_xds::ResourceType::{self, Cluster, Endpoints, Listener, Route};
use mesh_xds::frame::Dialect::{Delta, Sotw};
use mesh_xds::stream::Traits;
use world::{World, clusters, some};

fn text(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Delta: subscribes and unsubscribes, exactly as said.
fn adjust(client: &mut Client, kind: ResourceType, add: &[&str], drop: &[&str]) -> Vec<client::Got> {
    client.ask_delta(kind, |request| {
        request.resource_names_subscribe = text(add);
        request.resource_names_unsubscribe = text(drop);
    })
}

/// A client that accepted all that it got for these names.
fn settled(mut client: Client, kind: ResourceType, names: &[&str], world: &World) -> Client {
    client.publish(world);
    let got = client.ask(kind, names);
    client.settle(got);
    client
}

#[test]
fn c21_leaving_a_name_out_unsubscribes_it() {
    let mut client = settled(Client::new(Sotw), Endpoints, &["a", "b"], &clusters(&["a", "b"]));
    assert!(client.ask(Endpoints, &["b"]).is_empty());
    let changed = clusters(&["a", "b"]).endpoints("a", 2).endpoints("b", 2);
    assert_eq!(told(&client.publish(&changed)), ["EDS b"]);
}

#[test]
fn c22_an_empty_list_on_a_fresh_type_is_the_wildcard() {
    for kind in ResourceType::ALL {
        both(|client| {
            let names = [("a", 1), ("b", 1)];
            let mut client = settled(client, kind, &[], &some(kind, &names));
            let all = if kind == Route { vec!["a", "b"] } else { client.holds(kind) };
            assert_eq!(all, ["a", "b"]);
            let more = some(kind, &[("a", 1), ("b", 1), ("c", 1)]);
            let got = client.publish(&more);
            client.settle(got);
            assert_eq!(client.holds(kind), ["a", "b", "c"], "{kind} {:?}", client.dialect);
        });
    }
}

#[test]
fn c22_the_wildcard_of_an_empty_world_is_answered() {
    both(|mut client| {
        client.publish(&World::default());
        assert_eq!(told(&client.ask(Cluster, &[])), ["CDS"]);
    });
}

#[test]
fn c23_an_empty_list_after_a_name_is_nothing() {
    both(|client| {
        let mut client = settled(client, Cluster, &["a"], &clusters(&["a", "b"]));
        assert!(client.ask(Cluster, &[]).is_empty());
        assert!(client.publish(&clusters(&["c"])).is_empty());
        assert!(client.publish(&clusters(&["a"]).cluster("a", 2)).is_empty());
    });
}

#[test]
fn c24_each_list_has_its_own_meaning() {
    let mut world = clusters(&["a", "b"]);
    let mut client = settled(Client::new(Sotw), Cluster, &[], &world);
    let mut edition = 1;
    let mut update = |client: &mut Client| {
        edition += 1;
        world = world.clone().cluster("a", edition).cluster("b", edition);
        let got = client.publish(&world);
        told(&client.settle(got))
    };
    assert_eq!(update(&mut client), ["CDS a b"]);
    let named = client.ask(Cluster, &["*", "a"]);
    client.settle(named);
    assert_eq!(update(&mut client), ["CDS a b"]);
    assert!(client.ask(Cluster, &["a"]).is_empty());
    assert_eq!(update(&mut client), ["CDS a"]);
    assert!(client.ask(Cluster, &[]).is_empty());
    assert!(update(&mut client).is_empty());
    let again = client.ask(Cluster, &["*"]);
    assert_eq!(told(&again), ["CDS a b"]);
}

#[test]
fn c25_legacy_wildcard_and_names_come_and_go_apart() {
    let mut client = settled(Client::new(Delta), Cluster, &[], &clusters(&["a", "b"]));
    let named = adjust(&mut client, Cluster, &["a"], &[]);
    assert_eq!(told(&named), ["CDS a"]);
    client.ack(&named[0]);
    let both = client.publish(&clusters(&[]).cluster("a", 2).cluster("b", 2));
    assert_eq!(told(&both), ["CDS a b"], "the wildcard stays");
    client.ack(&both[0]);
    assert!(adjust(&mut client, Cluster, &[], &["*"]).is_empty());
    let one = client.publish(&clusters(&[]).cluster("a", 3).cluster("b", 3));
    assert_eq!(told(&one), ["CDS a"], "the name stays");
}

#[test]
fn c26_a_name_dropped_under_the_wildcard_is_answered() {
    let mut client = settled(Client::new(Delta), Cluster, &["*", "a", "x"], &clusters(&["a"]));
    let kept = adjust(&mut client, Cluster, &[], &["a"]);
    assert_eq!(told(&kept), ["CDS a"]);
    client.ack(&kept[0]);
    assert_eq!(told(&adjust(&mut client, Cluster, &[], &["x"])), ["CDS -x"]);
}

#[test]
fn c27_the_legacy_wildcard_can_be_switched_off() {
    for dialect in [Sotw, Delta] {
        let mut client = Client::with(dialect, Traits { legacy_wildcard: false });
        client.publish(&clusters(&["a"]));
        assert!(client.ask(Cluster, &[]).is_empty());
        assert_eq!(told(&client.ask(Cluster, &["*"])), ["CDS a"]);
    }
}

#[test]
fn c28_a_newly_named_resource_is_sent_though_unchanged() {
    let world = clusters(&["a", "b"]);
    let mut client = settled(Client::new(Sotw), Endpoints, &["a", "b"], &world);
    assert!(client.ask(Endpoints, &["b"]).is_empty());
    let again = client.ask(Endpoints, &["a", "b"]);
    assert_eq!(told(&again), ["EDS a"]);
    // The same where the wildcard had brought it.
    let mut client = settled(Client::new(Sotw), Cluster, &[], &world);
    let named = client.ask(Cluster, &["*", "a"]);
    assert_eq!(told(&named), ["CDS a b"]);
}

#[test]
fn c29_a_name_subscribed_again_is_sent_again() {
    for (kind, names) in [(Endpoints, vec!["a", "b"]), (Cluster, vec![])] {
        let mut client = settled(Client::new(Delta), kind, &names, &clusters(&["a", "b"]));
        let again = adjust(&mut client, kind, &["a"], &[]);
        assert_eq!(told(&again), [format!("{kind} a")]);
        client.ack(&again[0]);
        adjust(&mut client, kind, &[], &["a"]);
        let anew = adjust(&mut client, kind, &["a"], &[]);
        assert_eq!(told(&anew), [format!("{kind} a")]);
    }
}

#[test]
fn c30_unsubscribing_is_not_answered() {
    let mut client = settled(Client::new(Delta), Endpoints, &["a", "b"], &clusters(&["a", "b"]));
    assert!(adjust(&mut client, Endpoints, &[], &["never", "a"]).is_empty());
    let gone = clusters(&["b"]);
    assert!(client.publish(&gone).is_empty(), "what was dropped is not told to be gone either");
    // Both in one request: what is dropped is not answered.
    assert!(adjust(&mut client, Endpoints, &["c"], &["c"]).is_empty());
}

#[test]
fn c31_a_missing_name_is_sent_once_it_exists() {
    both(|mut client| {
        client.publish(&World::default());
        for (kind, existing) in [
            (Endpoints, some(Endpoints, &[("late", 1)])),
            (Route, some(Route, &[("late", 1)])),
            (Cluster, clusters(&["late"])),
            (Listener, some(Listener, &[("late", 1)])),
        ] {
            let mut client = Client::new(client.dialect);
            client.publish(&World::default());
            let got = client.ask(kind, &["late"]);
            client.settle(got);
            let got = client.publish(&existing);
            assert_eq!(told(&got), [format!("{kind} late")]);
        }
    });
}

#[test]
fn c31_what_was_asked_before_the_first_snapshot_is_answered_with_it() {
    both(|mut client| {
        assert!(client.ask(Endpoints, &["a"]).is_empty());
        assert!(client.ask(Cluster, &[]).is_empty());
        assert_eq!(told(&client.publish(&clusters(&["a"]))), ["CDS a", "EDS a"]);
    });
}

#[test]
fn c32_a_missing_name_is_told_and_its_watch_kept() {
    for kind in [Cluster, Endpoints, Route, Listener] {
        let mut client = Client::new(Delta);
        client.publish(&World::default());
        let missing = client.ask(kind, &["late"]);
        assert_eq!(told(&missing), [format!("{kind} -late")]);
        client.ack(&missing[0]);
        assert!(client.publish(&clusters(&["other"])).is_empty());
        assert_eq!(told(&client.publish(&some(kind, &[("late", 1)]))), [format!("{kind} late")]);
    }
}

#[test]
fn c33_a_missing_name_is_told_by_leaving_it_out_or_left_to_the_clients_timer() {
    let mut client = Client::new(Sotw);
    client.publish(&clusters(&["a"]));
    // Full responses: what they leave out does not exist.
    assert_eq!(told(&client.ask(Cluster, &["a", "missing"])), ["CDS a"]);
    assert_eq!(told(&client.ask(Listener, &["missing"])), ["LDS"]);
    // Others cannot say so.
    assert!(client.ask(Endpoints, &["missing"]).is_empty());
    assert!(client.ask(Route, &["missing"]).is_empty());
}

#[test]
fn what_a_subscription_takes_in_memory_is_known_and_bounded() {
    use mesh_xds::stream::Heard;
    use mesh_xds::subscription::{SUBSCRIPTION_LIMIT, Subscription};
    let mut subscription = Subscription::default();
    subscription.adjust(&text(&["a", "b", "a"]), &[], true, intern);
    let two = subscription.size();
    subscription.adjust(&text(&["c"]), &text(&["a", "never"]), true, intern);
    assert_eq!(subscription.size(), two);
    subscription.replace(&text(&["a", "b"]), true, intern);
    assert_eq!(subscription.size(), two);
    subscription.replace(&[], true, intern);
    assert_eq!(subscription.size(), 0);

    both(|mut client| {
        let long = "x".repeat(SUBSCRIPTION_LIMIT);
        client.ask(Endpoints, &["a", &long]);
        assert!(matches!(client.heard, Some(Heard::TooMuch)));
    });
}

fn intern(name: &str) -> std::sync::Arc<str> {
    name.into()
}
