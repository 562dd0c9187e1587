//! A control plane that restarts, without the state of its earlier streams. Traffic is tested elsewhere.

use mesh_xds::cache::{EVERYONE, OnRejection};
use shared::envoy::EnvoyXdsVariant;

use super::mesh::{Mesh, replaced};
use super::{NOWHERE, eventually, snapshot, topology};

in_both_variants! {
    a_restarted_control_plane_repeats_nothing: returning;
    resources_removed_while_the_control_plane_was_down_are_removed: removed_meanwhile;
}

async fn returning(variant: EnvoyXdsVariant) {
    let mesh = Mesh::start(variant, snapshot(topology("blue", NOWHERE)), OnRejection::Keep).await;
    mesh.accepted(&mesh.cache.snapshot(EVERYONE).unwrap()).await;
    let mesh = replaced(mesh, snapshot(topology("blue", NOWHERE))).await;
    mesh.accepted(&mesh.cache.snapshot(EVERYONE).unwrap()).await;
    assert_eq!(mesh.sent_since(0), [""; 0]);
    mesh.end().await;
}

async fn removed_meanwhile(variant: EnvoyXdsVariant) {
    let mut both = topology("blue", NOWHERE);
    both.extend(topology("green", NOWHERE).into_iter().take(2));
    let mesh = Mesh::start(variant, snapshot(both), OnRejection::Keep).await;
    mesh.accepted(&mesh.cache.snapshot(EVERYONE).unwrap()).await;
    let mesh = replaced(mesh, snapshot(topology("blue", NOWHERE))).await;
    eventually("green's end", async || {
        let clusters = mesh.envoy.admin().clusters().await.map_err(|error| error.to_string())?;
        let names: Vec<String> = clusters.into_iter().map(|cluster| cluster.name).collect();
        if names.iter().any(|name| name == "green") { Err(format!("{names:?}")) } else { Ok(()) }
    })
    .await;
    mesh.end().await;
}
