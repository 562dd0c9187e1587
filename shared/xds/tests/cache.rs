//! The cache: groups, accepted snapshots, rollbacks, and quarantined versions.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/topology.rs"]
mod topology;

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use mesh_xds::ResourceType::Cluster;
use mesh_xds::cache::{Cache, EVERYONE, OnRejection, Watch};
use mesh_xds::publication::SyncStatus;
use mesh_xds::{Snapshot, version::Version};
use topology::{cluster, clusters};

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
    let (cache, one, two, good) = agreed(OnRejection::RollBack);
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
    let cache = Arc::new(Cache::default().on_rejection(OnRejection::RollBack));
    let member = watch(&cache, "n");
    let seq = cache.set(EVERYONE, clusters(&["bad"]).snapshot());
    member.report(SyncStatus::Rejected(seq));
    assert_eq!(member.publications.borrow().clone().unwrap().publication.seq, seq);
}

#[test]
fn a_later_rejection_by_a_client_revokes_its_acceptance() {
    let (cache, one, two, good) = agreed(OnRejection::RollBack);
    let seq = cache.set(EVERYONE, clusters(&["good", "more"]).snapshot());
    one.report(SyncStatus::Synced(seq));
    two.report(SyncStatus::Synced(seq));
    assert!(!same(cache.accepted(EVERYONE), &good));
    // It had not asked for everything yet.
    two.report(SyncStatus::Pending);
    two.report(SyncStatus::Rejected(seq));
    assert!(same(cache.snapshot(EVERYONE), &good));
}

#[test]
fn a_version_that_one_client_rejected_is_quarantined_for_its_group_until_pardoned() {
    let cache = Arc::new(Cache::grouped(|node| node.user_agent_name.clone()));
    let agent = |name: &str| Node { user_agent_name: name.to_owned(), ..Node::default() };
    let (one, two, stranger) = (cache.watch(&agent("x")), cache.watch(&agent("x")), cache.watch(&agent("y")));
    let bad = cluster("bad", 1).version();
    one.quarantine_versions([bad]);
    assert!(two.quarantine().versions.contains(&bad));
    assert!(!stranger.quarantine().versions.contains(&bad), "another group is another kind of client");
    drop((one, two));
    cache.set("x", clusters(&["bad"]).snapshot());
    cache.pardon("x");
    assert!(cache.watch(&agent("x")).quarantine().versions.is_empty());
}

#[test]
fn a_snapshot_with_a_quarantined_version_never_counts_as_accepted() {
    let (cache, one, two, good) = agreed(OnRejection::Keep);
    let bad = clusters(&["good", "bad"]).snapshot();
    let seq = cache.set(EVERYONE, Arc::clone(&bad));
    one.quarantine_versions([cluster("bad", 1).version()]);
    one.report(SyncStatus::Rejected(seq));
    // The client that rejected disconnects. The others, and new ones, are sent everything except the rejected version.
    drop(one);
    two.report(SyncStatus::Synced(seq));
    let newcomer = watch(&cache, "three");
    newcomer.report(SyncStatus::Synced(seq));
    assert!(same(cache.accepted(EVERYONE), &good));
    // Published again after a correction it is what it was.
    cache.set(EVERYONE, clusters(&["good", "better"]).snapshot());
    let seq = cache.set(EVERYONE, bad);
    two.report(SyncStatus::Synced(seq));
    newcomer.report(SyncStatus::Synced(seq));
    assert!(same(cache.accepted(EVERYONE), &good));
    assert_eq!(cache.roll_back(EVERYONE), Ok(seq + 1));
    assert!(same(cache.snapshot(EVERYONE), &good));
}

#[test]
fn a_snapshot_with_a_quarantined_version_is_rolled_back_immediately() {
    let (cache, one, two, good) = agreed(OnRejection::RollBack);
    let seq = cache.set(EVERYONE, clusters(&["good", "bad"]).snapshot());
    one.quarantine_versions([cluster("bad", 1).version()]);
    one.report(SyncStatus::Rejected(seq));
    assert!(same(cache.snapshot(EVERYONE), &good));
    let back = seq + 1;
    one.report(SyncStatus::Synced(back));
    two.report(SyncStatus::Synced(back));
    assert_eq!(cache.set(EVERYONE, clusters(&["good", "other", "bad"]).snapshot()), back + 1);
    assert!(same(cache.snapshot(EVERYONE), &good));
}

#[test]
fn a_later_rejection_revokes_the_accepted_snapshot() {
    let (cache, one, two, good) = agreed(OnRejection::Keep);
    for names in [["good", "more"], ["good", "most"]] {
        let seq = cache.set(EVERYONE, clusters(&names).snapshot());
        one.report(SyncStatus::Synced(seq));
        two.report(SyncStatus::Synced(seq));
    }
    assert!(!same(cache.accepted(EVERYONE), &good));
    let newcomer = watch(&cache, "three");
    newcomer.quarantine_versions([cluster("most", 1).version()]);
    // The one before is still in order.
    let accepted = cache.accepted(EVERYONE).unwrap();
    assert!(accepted.get(Cluster, "more").is_some());
    newcomer.quarantine_versions([cluster("good", 1).version()]);
    assert!(cache.accepted(EVERYONE).is_none());
}

#[test]
fn a_pardoned_version_is_published_again() {
    let cache = Arc::new(Cache::default());
    let (one, two) = (watch(&cache, "one"), watch(&cache, "two"));
    let seq = cache.set(EVERYONE, clusters(&["bad"]).snapshot());
    one.quarantine_versions([cluster("bad", 1).version()]);
    two.report(SyncStatus::Synced(seq));
    drop(one);
    assert!(cache.accepted(EVERYONE).is_none());
    cache.pardon(EVERYONE);
    let published = two.publications.borrow().clone().unwrap().publication;
    // With a gap in the numbers, after which a stream looks at every name.
    assert_eq!(published.seq, seq + 2);
    two.report(SyncStatus::Synced(seq));
    assert!(cache.accepted(EVERYONE).is_none(), "not before it took that over");
    two.report(SyncStatus::Synced(published.seq));
    assert!(cache.accepted(EVERYONE).is_some());
}

#[test]
fn the_quarantine_outlives_the_client_that_filled_it() {
    let cache = Arc::new(Cache::default());
    cache.set(EVERYONE, clusters(&["bad"]).snapshot());
    let bad = cluster("bad", 1).version();
    watch(&cache, "n").quarantine_versions([bad]);
    assert!(watch(&cache, "n").quarantine().versions.contains(&bad));
}

#[test]
fn a_client_that_rejects_everything_uses_bounded_memory() {
    let cache = Arc::new(Cache::default());
    let member = watch(&cache, "n");
    let mut version = Version::NONE;
    for edition in 0..20_000_u32 {
        version = version.with(cluster("c", 1).version());
        member.quarantine_versions([version]);
        assert!(member.quarantine().versions.len() <= 4096, "after {edition}");
    }
}
