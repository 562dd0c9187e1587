//! What Envoy accepts: it then holds just that, at once, and no caller notices the change. Knows of no refusal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mesh_xds::ResourceType;
use mesh_xds::builders;
use mesh_xds::cache::{EVERYONE, OnRejection};
use shared::envoy::EnvoyXdsVariant;
use shared::envoy::admin::{ResourceKind, ResourceState};
use shared::lifecycle::{GRACE, Lifecycle};

use super::mesh::Mesh;
use super::traffic::{get, upstream};
use super::{NOWHERE, eventually, resource, snapshot, topology};

in_both_variants! {
    envoy_holds_exactly_the_snapshot: holds_the_snapshot;
    a_changed_cluster_is_warm_at_once: changed_cluster;
    swapping_clusters_fails_no_request: swap;
}

async fn holds_the_snapshot(variant: EnvoyXdsVariant) {
    let mesh = Mesh::start(variant, snapshot(topology("blue", NOWHERE)), OnRejection::Keep).await;
    let current = mesh.cache.snapshot(EVERYONE).unwrap();
    mesh.accepted(&current).await;
    let held = eventually("all resources in Envoy's dump", async || {
        let dynamic = mesh.envoy.admin().dynamic_resources().await.map_err(|error| error.to_string())?;
        let warm = dynamic.iter().all(|one| matches!(one.state, None | Some(ResourceState::Active)));
        if dynamic.len() >= 4 && warm { Ok(dynamic) } else { Err(format!("{dynamic:?}")) }
    })
    .await;
    for (kind, ours) in [
        (ResourceKind::Cluster, ResourceType::Cluster),
        (ResourceKind::Endpoints, ResourceType::Endpoints),
        (ResourceKind::Listener, ResourceType::Listener),
        (ResourceKind::Route, ResourceType::Route),
    ] {
        let theirs: BTreeSet<(String, String)> = held
            .iter()
            .filter(|one| one.kind == kind)
            .map(|one| (one.name.clone(), one.version.clone()))
            .collect();
        // With one resource of a type, the version of the set is the resource's own.
        let expected: BTreeSet<_> = current
            .of(ours)
            .iter()
            .map(|resource| {
                // Envoy's dump tells no version of endpoints.
                let version = resource.version().to_string();
                let told = if ours == ResourceType::Endpoints { String::new() } else { version };
                (resource.name().to_string(), told)
            })
            .collect();
        assert_eq!(theirs, expected, "{ours}");
    }
    mesh.end().await;
}

async fn changed_cluster(variant: EnvoyXdsVariant) {
    let mesh = Mesh::start(variant, snapshot(topology("blue", NOWHERE)), OnRejection::Keep).await;
    mesh.listener().await;
    let mark = mesh.event_log.mark();
    let mut resources = topology("blue", NOWHERE);
    let mut changed = builders::cluster("blue");
    changed.connect_timeout = Some(envoy_types::pb::google::protobuf::Duration { seconds: 3, nanos: 0 });
    resources[0] = resource(&changed);
    mesh.show(snapshot(resources)).await;
    // Envoy waits for the endpoints of a changed cluster, though they are the same.
    assert_eq!(mesh.sent_since(mark), ["CDS", "EDS"]);
    eventually("no warming cluster", async || {
        let stats = mesh.envoy.admin().stats("warming_clusters").await.map_err(|error| error.to_string())?;
        match stats.get("cluster_manager.warming_clusters") {
            Some(0) => Ok(()),
            warming => Err(format!("{warming:?} warming")),
        }
    })
    .await;
    mesh.end().await;
}

async fn swap(variant: EnvoyXdsVariant) {
    let life = Lifecycle::default();
    let (blue, green) = (upstream("blue", &life).await, upstream("green", &life).await);
    let mesh = Mesh::start(variant, snapshot(topology("blue", blue)), OnRejection::Keep).await;
    let at = mesh.listener().await;
    eventually("an answer", async || match get(at).await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    // Requests without a pause, until the swap is over and a little longer.
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let asking = tokio::spawn({
        let (over, asked) = (Arc::clone(&over), Arc::clone(&asked));
        async move {
            let mut answers = Vec::new();
            while !over.load(Ordering::Relaxed) && answers.len() < 100_000 {
                answers.push(get(at).await);
                asked.fetch_add(1, Ordering::Relaxed);
            }
            answers
        }
    });
    let more = async |n: u64| {
        let until = asked.load(Ordering::Relaxed) + n;
        eventually("more requests", async || {
            let now = asked.load(Ordering::Relaxed);
            if now >= until { Ok(()) } else { Err(now) }
        })
        .await;
    };
    more(20).await;
    let mark = mesh.event_log.mark();
    // Blue and green change places at once; the control plane chooses the order of the updates.
    mesh.show(snapshot(topology("green", green))).await;
    more(50).await;
    over.store(true, Ordering::Relaxed);
    let answers = asking.await.unwrap();
    let failed: Vec<_> = answers.iter().filter(|answer| !matches!(answer, Ok((200, _)))).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), answers.len(), failed.first());
    assert_eq!(answers.last().unwrap(), &Ok((200, "green".to_owned())));
    let sent = mesh.sent_since(mark);
    assert_eq!(sent.first().map(String::as_str), Some("CDS"), "{sent:?}");
    assert_eq!(&sent[1..3], ["EDS", "RDS"], "{sent:?}");
    assert_eq!(sent[3], "CDS", "the old cluster goes last: {sent:?}");
    mesh.end().await;
    life.shut_down(GRACE).await.unwrap();
}
