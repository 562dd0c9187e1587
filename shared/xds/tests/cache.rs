//! The cache: groups, accepted snapshots, and rollbacks.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/topology.rs"]
mod topology;

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use mesh_xds::ResourceType::Cluster;
use mesh_xds::Snapshot;
use mesh_xds::cache::{Cache, EVERYONE, OnRejection, Quorum, Watch};
use mesh_xds::publication::SyncStatus;
use topology::clusters;

/// Rolls back if any client rejects.
const ONE: OnRejection = OnRejection::RollBack { quorum: Quorum::Clients(1) };

fn watch(cache: &Arc<Cache>, node: &str) -> Watch {
    cache.watch(&Node { id: node.to_owned(), ..Node::default() })
}

fn shown(member: &Watch) -> Option<Vec<String>> {
    let published = member.publications.borrow().clone()?.publication;
    let mut names: Vec<_> = published.snapshot.of(Cluster).iter().map(|one| one.name().to_string()).collect();
    names.sort_unstable();
    Some(names)
}

fn same(one: Option<Arc<Snapshot>>, other: &Arc<Snapshot>) -> bool {
    one.is_some_and(|one| Arc::ptr_eq(&one, other))
}

/// Two members, and a snapshot that both accepted.
fn agreed(on_rejection: OnRejection) -> (Arc<Cache>, Watch, Watch, Arc<Snapshot>) {
    let cache = Arc::new(Cache::default().on_rejection(on_rejection));
    let (one, two) = (watch(&cache, "one"), watch(&cache, "two"));
    let good = clusters(&["good"]).snapshot();
    let seq = cache.set(EVERYONE, Arc::clone(&good));
    one.report(SyncStatus::Synced(seq));
    two.report(SyncStatus::Synced(seq));
    assert!(same(cache.accepted(EVERYONE), &good));
    (cache, one, two, good)
}

#[test]
fn each_group_receives_its_own_snapshots() {
    let cache = Arc::new(Cache::grouped(|node| node.id.clone()));
    let (left, right, early) = (watch(&cache, "left"), watch(&cache, "right"), watch(&cache, "early"));
    cache.set("left", clusters(&["a"]).snapshot());
    cache.set("right", clusters(&["b"]).snapshot());
    assert_eq!((shown(&left), shown(&right)), (Some(vec!["a".into()]), Some(vec!["b".into()])));
    assert_eq!((shown(&early), early.group()), (None, "early"));
    cache.set("early", clusters(&["c"]).snapshot());
    assert_eq!(shown(&early), Some(vec!["c".into()]));
    assert!(cache.snapshot("nobody").is_none() && cache.accepted("nobody").is_none());
}

#[test]
fn publications_are_numbered_and_list_changes() {
    let cache = Arc::new(Cache::default());
    let member = watch(&cache, "n");
    let changes = |member: &Watch| {
        let published = member.publications.borrow().clone().unwrap().publication;
        let mut names: Vec<_> = published.changes[Cluster].iter().map(|name| name.to_string()).collect();
        names.sort_unstable();
        (published.seq, names)
    };
    assert_eq!(cache.set(EVERYONE, clusters(&["a", "b"]).snapshot()), 1);
    assert_eq!(changes(&member), (1, vec!["a".into(), "b".into()]));
    cache.set(EVERYONE, clusters(&["b", "c"]).snapshot());
    assert_eq!(changes(&member), (2, vec!["a".into(), "c".into()]));
}

#[test]
fn publications_from_many_threads_have_distinct_numbers() {
    let cache = Arc::new(Cache::default());
    let mut seqs: Vec<u64> = std::thread::scope(|scope| {
        let publish = |name: &'static str| {
            let cache = &cache;
            scope.spawn(move || (0..50).map(|_| cache.set(EVERYONE, clusters(&[name]).snapshot())).collect())
        };
        let threads: Vec<std::thread::ScopedJoinHandle<'_, Vec<u64>>> =
            ["a", "b", "c", "d"].into_iter().map(publish).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=200).collect::<Vec<u64>>());
}

#[test]
fn a_snapshot_is_accepted_when_every_client_accepted_it() {
    let (cache, one, two, good) = agreed(OnRejection::Keep);
    let better = clusters(&["better"]).snapshot();
    let seq = cache.set(EVERYONE, Arc::clone(&better));
    assert!(same(cache.accepted(EVERYONE), &good), "no client answered yet");
    one.report(SyncStatus::Synced(seq));
    two.report(SyncStatus::Pending);
    two.report(SyncStatus::Synced(seq - 1));
    assert!(same(cache.accepted(EVERYONE), &good), "one is behind");
    // A client that comes has to accept it too; one that goes is waited for no longer.
    let three = watch(&cache, "three");
    two.report(SyncStatus::Synced(seq));
    assert!(same(cache.accepted(EVERYONE), &good));
    drop(three);
    assert!(same(cache.accepted(EVERYONE), &better));
}

#[test]
fn a_group_without_clients_accepts_nothing() {
    let cache = Arc::new(Cache::default());
    let member = watch(&cache, "n");
    cache.set(EVERYONE, clusters(&["a"]).snapshot());
    drop(member);
    assert!(cache.accepted(EVERYONE).is_none());
    assert!(cache.roll_back(EVERYONE).is_err());
}

#[test]
fn a_group_rolls_back_on_demand_to_the_accepted_snapshot() {
    let (cache, one, two, good) = agreed(OnRejection::Keep);
    assert!(cache.roll_back(EVERYONE).is_err(), "it is what is shown");
    let seq = cache.set(EVERYONE, clusters(&["bad"]).snapshot());
    one.report(SyncStatus::Rejected(seq));
    assert_eq!(shown(&two), Some(vec!["bad".into()]), "nothing happens by itself");
    assert_eq!(cache.roll_back(EVERYONE), Ok(seq + 1));
    assert!(same(cache.snapshot(EVERYONE), &good));
    let error = cache.roll_back("nobody").unwrap_err().to_string();
    assert!(error.contains("'nobody'"), "{error}");
}

#[test]
fn a_rejection_rolls_the_group_back_if_configured() {
    let (cache, one, two, good) = agreed(ONE);
    let seq = cache.set(EVERYONE, clusters(&["bad"]).snapshot());
    two.report(SyncStatus::Synced(seq));
    one.report(SyncStatus::Rejected(seq));
    assert!(same(cache.snapshot(EVERYONE), &good));
    let back = one.publications.borrow().clone().unwrap().publication.seq;
    assert_eq!(back, seq + 1);
    // A late refusal of what is not shown any more changes nothing, and neither does one of the
    // accepted snapshot: there is nothing better.
    two.report(SyncStatus::Rejected(seq));
    two.report(SyncStatus::Rejected(back));
    one.report(SyncStatus::Rejected(back));
    assert_eq!(one.publications.borrow().clone().unwrap().publication.seq, back);
    one.report(SyncStatus::Synced(back));
    two.report(SyncStatus::Synced(back));
    assert!(same(cache.accepted(EVERYONE), &good));
}

#[test]
fn without_an_accepted_snapshot_a_rejection_changes_nothing() {
    let cache = Arc::new(Cache::default().on_rejection(ONE));
    let member = watch(&cache, "n");
    let seq = cache.set(EVERYONE, clusters(&["bad"]).snapshot());
    member.report(SyncStatus::Rejected(seq));
    assert_eq!(member.publications.borrow().clone().unwrap().publication.seq, seq);
}

#[test]
fn a_later_rejection_by_a_client_revokes_its_acceptance() {
    let (cache, one, two, good) = agreed(ONE);
    let seq = cache.set(EVERYONE, clusters(&["good", "more"]).snapshot());
    one.report(SyncStatus::Synced(seq));
    two.report(SyncStatus::Synced(seq));
    assert!(!same(cache.accepted(EVERYONE), &good));
    // It had not asked for everything yet.
    two.report(SyncStatus::Pending);
    two.report(SyncStatus::Rejected(seq));
    assert!(same(cache.snapshot(EVERYONE), &good));
}

/// A group of clients that accepted a snapshot, and the snapshot.
fn group(on_rejection: OnRejection, nodes: &[&str]) -> (Arc<Cache>, Vec<Watch>, Arc<Snapshot>) {
    let cache = Arc::new(Cache::default().on_rejection(on_rejection));
    let members: Vec<Watch> = nodes.iter().map(|node| watch(&cache, node)).collect();
    let good = clusters(&["good"]).snapshot();
    let seq = cache.set(EVERYONE, Arc::clone(&good));
    members.iter().for_each(|member| member.report(SyncStatus::Synced(seq)));
    (cache, members, good)
}

#[test]
fn a_group_rolls_back_when_the_quorum_is_reached() {
    let nodes = ["n0", "n1", "n2", "n3"];
    for (quorum, needed) in
        [("1", 1), ("2", 2), ("4", 4), ("1%", 1), ("25%", 1), ("26%", 2), ("50%", 2), ("100%", 4)]
    {
        let quorum = quorum.parse().unwrap();
        let (cache, members, good) = group(OnRejection::RollBack { quorum }, &nodes);
        let seq = cache.set(EVERYONE, clusters(&["bad"]).snapshot());
        for (rejecting, member) in members.iter().enumerate() {
            assert_eq!(same(cache.snapshot(EVERYONE), &good), rejecting >= needed, "{quorum}: {rejecting}");
            member.report(SyncStatus::Rejected(seq));
        }
        assert!(same(cache.snapshot(EVERYONE), &good), "{quorum}: all reject");
    }
}

#[test]
fn the_streams_of_a_node_are_one_client_of_a_quorum() {
    let quorum = Quorum::Clients(2);
    let (cache, members, good) = group(OnRejection::RollBack { quorum }, &["n0", "n0", "n1"]);
    let seq = cache.set(EVERYONE, clusters(&["bad"]).snapshot());
    members[0].report(SyncStatus::Rejected(seq));
    members[1].report(SyncStatus::Rejected(seq));
    assert!(!same(cache.snapshot(EVERYONE), &good));
    members[2].report(SyncStatus::Rejected(seq));
    assert!(same(cache.snapshot(EVERYONE), &good));
    // Without node ids, each stream is a client.
    let (cache, members, good) = group(OnRejection::RollBack { quorum }, &["", "", ""]);
    let seq = cache.set(EVERYONE, clusters(&["bad"]).snapshot());
    members[0].report(SyncStatus::Rejected(seq));
    members[1].report(SyncStatus::Rejected(seq));
    assert!(same(cache.snapshot(EVERYONE), &good));
}

#[test]
fn only_connected_clients_count_for_a_quorum() {
    let quorum = Quorum::Percent(50);
    let (cache, mut members, good) = group(OnRejection::RollBack { quorum }, &["n0", "n1", "n2"]);
    let seq = cache.set(EVERYONE, clusters(&["bad"]).snapshot());
    members[0].report(SyncStatus::Rejected(seq));
    assert!(!same(cache.snapshot(EVERYONE), &good));
    members.pop();
    assert!(same(cache.snapshot(EVERYONE), &good), "one of the two that are left");
}

#[test]
fn a_quorum_is_a_number_of_clients_or_a_percentage() {
    assert_eq!("3".parse(), Ok(Quorum::Clients(3)));
    assert_eq!("50%".parse(), Ok(Quorum::Percent(50)));
    for text in ["", "0", "0%", "101%", "-1", "half"] {
        assert!(text.parse::<Quorum>().unwrap_err().to_string().contains(&format!("'{text}'")), "{text}");
    }
}
