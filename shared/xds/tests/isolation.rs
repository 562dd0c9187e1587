//! One client's rejection affects no other client: not of its group, not of its node, not one that connects later.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/test_server.rs"]
mod test_server;
#[path = "common/topology.rs"]
mod topology;

use std::sync::Arc;
use std::time::Duration;

use client::Received;
use mesh_xds::ResourceType::{Cluster, Listener, Route, Secret};
use mesh_xds::XdsVariant;
use mesh_xds::cache::EVERYONE;
use mesh_xds::event_log::{Client, Event, EventKind};
use mesh_xds::publication::SyncStatus;
use mesh_xds::{Cache, Snapshot};
use shared::poll::wait_until;
use test_server::{GrpcStream, TestServer, VARIANTS};
use topology::{clusters, some, web};

const LIMIT: Duration = Duration::from_secs(20);
const OFTEN: Duration = Duration::from_millis(2);

/// Waits until the only client has a status, and returns the client.
async fn client_with(server: &TestServer, is_it: impl Fn(SyncStatus) -> bool) -> Client {
    let look = || {
        let clients = server.event_log.clients();
        let found = clients.iter().find(|client| clients.len() == 1 && is_it(client.status)).cloned();
        std::future::ready(found.ok_or_else(|| format!("{clients:?}")))
    };
    wait_until("the client's status", OFTEN, LIMIT, look).await.unwrap()
}

fn is_rejected(status: SyncStatus) -> bool {
    matches!(status, SyncStatus::Rejected(_))
}

fn is_synced(status: SyncStatus) -> bool {
    matches!(status, SyncStatus::Synced(_))
}

async fn subscribed(
    server: &TestServer,
    variant: XdsVariant,
    node: &str,
    names: &[&str],
) -> (GrpcStream, Received) {
    let mut stream = server.open(variant, node).await;
    stream.subscribe(Cluster, names);
    let got = stream.next().await;
    (stream, got)
}

fn secrets(names: &[(&str, u32)]) -> Arc<Snapshot> {
    some(Secret, names).snapshot()
}

async fn secrets_of(server: &TestServer, variant: XdsVariant) -> (GrpcStream, Received) {
    let mut stream = server.open(variant, "n").await;
    stream.subscribe(Secret, &[]);
    let got = stream.next().await;
    (stream, got)
}

#[tokio::test]
async fn a_new_client_gets_what_another_client_rejected() {
    for variant in VARIANTS {
        let server = TestServer::start(Cache::default()).await;
        server.cache.set(EVERYONE, clusters(&["a"]).snapshot());
        let (first, got) = subscribed(&server, variant, "node-1", &["a"]).await;
        first.nack(&got, "a: no");
        client_with(&server, is_rejected).await;
        for node in ["node-2", "node-1"] {
            for (names, other) in [(&["a"][..], XdsVariant::Sotw), (&[], XdsVariant::Delta)] {
                let (stream, got) = subscribed(&server, other, node, names).await;
                assert_eq!(got.to_string(), "CDS a", "{node}");
                stream.ack(&got);
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_rejected_everything_and_left_does_not_blank_newcomers() {
    let server = TestServer::start(Cache::default()).await;
    server.cache.set(EVERYONE, web().snapshot());
    let mut hostile = server.open(XdsVariant::Delta, "hostile").await;
    for (kind, name) in [(Cluster, "be"), (Listener, "web"), (Route, "paths")] {
        hostile.subscribe(kind, &[name]);
        let got = hostile.next().await;
        assert_eq!(got.to_string(), format!("{kind} {name}"));
        hostile.nack(&got, name);
    }
    client_with(&server, is_rejected).await;
    hostile.close().await.unwrap();
    for variant in VARIANTS {
        for (kind, name) in [(Cluster, "be"), (Listener, "web"), (Route, "paths")] {
            let mut stream = server.open(variant, "newcomer").await;
            stream.subscribe(kind, &[name]);
            assert_eq!(stream.next().await.to_string(), format!("{kind} {name}"));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_reconnecting_client_gets_what_was_added_while_another_client_rejected() {
    for variant in VARIANTS {
        let server = TestServer::start(Cache::default()).await;
        server.cache.set(EVERYONE, clusters(&["a"]).snapshot());
        let (one, had) = subscribed(&server, variant, "node-1", &[]).await;
        one.ack(&had);
        let is_ack = |event: &Event| matches!(event.kind, EventKind::Ack { .. });
        tokio::time::timeout(LIMIT, server.event_log.wait_for(0, is_ack)).await.unwrap();
        one.close().await.unwrap();
        let (two, got) = subscribed(&server, variant, "node-2", &[]).await;
        two.nack(&got, "a: no");
        server.cache.set(EVERYONE, clusters(&["a", "b"]).snapshot());
        let mut one = server.open(variant, "node-1").await;
        one.resume(Cluster, &[], &had);
        let got = one.next().await;
        assert_eq!(got.to_string(), if variant == XdsVariant::Sotw { "CDS a b" } else { "CDS b" });
        one.ack(&got);
        server.cache.set(EVERYONE, clusters(&["a", "b", "c"]).snapshot());
        assert!(one.next().await.to_string().ends_with('c'));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_rejection_is_shown_until_it_is_corrected() {
    for variant in VARIANTS {
        let server = TestServer::start(Cache::default()).await;
        let good = secrets(&[("a", 1), ("b", 1)]);
        server.cache.set(EVERYONE, good.clone());
        let (mut stream, first) = secrets_of(&server, variant).await;
        stream.ack(&first);
        client_with(&server, is_synced).await;

        server.cache.set(EVERYONE, secrets(&[("a", 1), ("b", 9)]));
        let got = stream.next().await;
        stream.nack(&got, "no\tway");
        let client = client_with(&server, is_rejected).await;
        let rejection = &client.rejections["SDS"];
        assert_eq!((&rejection.version, &rejection.nonce), (&got.version, &got.nonce));
        assert_eq!((rejection.names.to_string(), &*rejection.message), ("[b]".to_owned(), "no way"));
        // A change of another type does not hide it.
        server.cache.set(EVERYONE, some(Secret, &[("a", 1), ("b", 9)]).cluster("c", 1).snapshot());
        let client = client_with(&server, |status| status == SyncStatus::Rejected(3)).await;
        assert_eq!(client.rejections.len(), 1);

        server.cache.set(EVERYONE, good);
        let client = client_with(&server, is_synced).await;
        assert!(client.rejections.is_empty(), "{client:?}");
        assert_eq!(client.types["SDS"], "in sync", "after the return to what it accepted");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_in_sync_after_a_reconnect_shows_as_such() {
    for variant in VARIANTS {
        let server = TestServer::start(Cache::default()).await;
        server.cache.set(EVERYONE, secrets(&[("a", 1)]));
        let (stream, had) = secrets_of(&server, variant).await;
        stream.ack(&had);
        client_with(&server, is_synced).await;
        stream.close().await.unwrap();
        let mut stream = server.open(variant, "n").await;
        stream.resume(Secret, &[], &had);
        let client = client_with(&server, is_synced).await;
        assert_eq!((client.status, &*client.types["SDS"]), (SyncStatus::Synced(1), "in sync"));
        server.stop().await;
    }
}
