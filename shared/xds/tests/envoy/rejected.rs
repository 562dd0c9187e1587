//! Envoy rejects a resource: traffic continues, and the control plane rolls back or waits for a correction.
//!
//! Knows one reason for a refusal, and not the others.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh_xds::Resource;
use mesh_xds::builders;
use mesh_xds::cache::{EVERYONE, OnRejection, Quorum};
use mesh_xds::event_log::EventKind;
use shared::envoy::EnvoyXdsVariant;
use shared::lifecycle::{GRACE, Lifecycle};

use super::mesh::Mesh;
use super::traffic::{get, upstream};
use super::{LIMIT, eventually, resource, snapshot, topology};

in_both_variants! {
    a_refused_listener_leaves_traffic_alone_and_is_rolled_back: refusal;
    without_rollback_a_refused_version_waits_for_its_correction: correction;
}

/// A listener that Envoy refuses: it names a filter that no Envoy has.
fn bad_listener() -> Resource {
    resource(&builders::unknown_filter(builders::listener("edge", (Ipv4Addr::LOCALHOST, 0).into(), "edge")))
}

fn world_with_bad_listener(at: SocketAddr) -> Vec<Resource> {
    let mut resources = topology("blue", at);
    resources[2] = bad_listener();
    resources
}

async fn nack(mesh: &Mesh, mark: u64) -> String {
    let refused = mesh.event_log.wait_for(mark, |event| matches!(event.kind, EventKind::Nack { .. }));
    let event = tokio::time::timeout(LIMIT, refused).await.expect("a NACK");
    match &event.kind {
        EventKind::Nack { message, names, .. } => {
            assert_eq!(names.to_string(), "[edge]");
            assert_eq!(&*event.node, "envoy-under-test");
            message.clone()
        }
        other => panic!("{other:?}"),
    }
}

async fn refusal(variant: EnvoyXdsVariant) {
    let life = Lifecycle::default();
    let blue = upstream("blue", &life).await;
    let mesh = Mesh::start(
        variant,
        snapshot(topology("blue", blue)),
        OnRejection::RollBack { quorum: Quorum::Percent(100) },
    )
    .await;
    let at = mesh.listener().await;
    let good = mesh.cache.snapshot(EVERYONE).unwrap();
    mesh.accepted(&good).await;

    let mark = mesh.event_log.mark();
    mesh.cache.set(EVERYONE, snapshot(world_with_bad_listener(blue)));
    let message = nack(&mesh, mark).await;
    assert!(message.contains("NoSuchFilter"), "{message}");
    eventually("the rollback", async || {
        let back = Arc::ptr_eq(&mesh.cache.snapshot(EVERYONE).unwrap(), &good);
        if back { Ok(()) } else { Err("still the refused snapshot") }
    })
    .await;
    assert_eq!(get(at).await, Ok((200, "blue".to_owned())));
    assert_eq!(mesh.listener().await, at);
    mesh.end().await;
    life.shut_down(GRACE).await.unwrap();
}

async fn correction(variant: EnvoyXdsVariant) {
    let life = Lifecycle::default();
    let (blue, green) = (upstream("blue", &life).await, upstream("green", &life).await);
    let mesh = Mesh::start(variant, snapshot(topology("blue", blue)), OnRejection::Keep).await;
    let at = mesh.listener().await;
    let good = mesh.cache.snapshot(EVERYONE).unwrap();
    mesh.accepted(&good).await;

    let mark = mesh.event_log.mark();
    mesh.cache.set(EVERYONE, snapshot(world_with_bad_listener(blue)));
    nack(&mesh, mark).await;
    // The same bad listener once more, with another change beside it: the change goes out, the listener does not.
    let mark = mesh.event_log.mark();
    mesh.cache.set(EVERYONE, snapshot(world_with_bad_listener(green)));
    eventually("the other change", async || match get(at).await {
        Ok((200, body)) if body == "green" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(mesh.sent_since(mark), ["EDS"]);
    assert!(Arc::ptr_eq(&mesh.cache.accepted(EVERYONE).unwrap(), &good));
    // A correction ends it.
    mesh.show(snapshot(topology("blue", blue))).await;
    eventually("the correction", async || match get(at).await {
        Ok((200, body)) if body == "blue" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    mesh.end().await;
    life.shut_down(GRACE).await.unwrap();
}
