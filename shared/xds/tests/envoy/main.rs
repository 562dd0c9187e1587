//! The control plane and the real Envoy, in both variants: what Envoy then holds, and what its callers get.
//!
//! This file has the topologies that are published. The assertions are in the modules.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

macro_rules! in_both_variants {
    ($($test:ident: $body:ident;)*) => {$(
        mod $test {
            use super::*;
            #[tokio::test]
            async fn sotw() {
                $body(EnvoyXdsVariant::Sotw).await;
            }
            #[tokio::test]
            async fn delta() {
                $body(EnvoyXdsVariant::Delta).await;
            }
        }
    )*};
}

mod mesh;

mod traffic;

mod updates;

mod rejected;

mod restart;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh::an_envoy;
use mesh_xds::builders::{self, LocalityEndpoints};
use mesh_xds::cache::EVERYONE;
use mesh_xds::client_quirks::ClientQuirks;
use mesh_xds::resource::XdsMessage;
use mesh_xds::{Cache, Resource, Server, Snapshot};
use shared::envoy::EnvoyXdsVariant;
use shared::lifecycle::{GRACE, Lifecycle};
use tokio::net::TcpListener;

/// Far more than anything takes, while other tests use both cores; less than Envoy's warming limit of
/// 15 s, which must not be what we wait for.
const LIMIT: Duration = Duration::from_secs(12);

const EVERY: Duration = Duration::from_millis(5);

async fn eventually<T, E: std::fmt::Display>(what: &str, look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let mut look = look;
    let start = tokio::time::Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(start.elapsed() < LIMIT, "waited too long for {what}; last: {seen}"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn resource<M: XdsMessage>(message: &M) -> Resource {
    Resource::new(message).unwrap()
}

/// A listener on any port, its route to `cluster`, and the cluster with one upstream.
fn topology(cluster: &str, at: SocketAddr) -> Vec<Resource> {
    let place = LocalityEndpoints { region: "here".into(), weight: 1, priority: 0, addresses: vec![at] };
    vec![
        resource(&builders::cluster(cluster)),
        resource(&builders::endpoints(cluster, &[place])),
        resource(&builders::listener("edge", (Ipv4Addr::LOCALHOST, 0).into(), "edge")),
        resource(&builders::route("edge", cluster)),
    ]
}

fn snapshot(resources: Vec<Resource>) -> Snapshot {
    Snapshot::new(resources).unwrap()
}

/// A port that nothing listens on, for topologies whose upstream is not called.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// A time to live may be sent to clients that say they support one; README.md builds on Envoy being none of them.
#[tokio::test]
async fn c49_envoy_does_not_announce_support_for_ttl() {
    let (life, outcome) = (Lifecycle::default(), Arc::new(Mutex::new(Vec::new())));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let cache = Arc::new(Cache::default());
    cache.set(EVERYONE, Snapshot::default());
    let features = Arc::clone(&outcome);
    let server = Server::builder(cache, life.token()).quirks(move |node| {
        features.lock().unwrap().push(node.client_features.clone());
        ClientQuirks::default()
    });
    life.spawn(async move { server.build().serve(listener).await.unwrap() });
    let envoy = an_envoy(address, EnvoyXdsVariant::Sotw, &life).await;
    envoy.stop().await;
    life.shut_down(GRACE).await.unwrap();
    let outcome = outcome.lock().unwrap();
    assert!(!outcome.is_empty(), "it introduced itself");
    assert!(
        !outcome.iter().flatten().any(|feature| feature == "xds.config.supports-resource-ttl"),
        "{outcome:?}"
    );
}
