//! A control plane and an Envoy that asks it. Does not know what is published.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_xds::cache::{EVERYONE, OnRejection};
use mesh_xds::event_log::EventKind;
use mesh_xds::{Cache, EventLog, ResourceType, Server, Snapshot};
use shared::envoy::{Bootstrap, Envoy, EnvoyXdsVariant, Serving};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::ports::ReservedPort;
use shared::tools;
use tokio::net::TcpListener;

use super::{LIMIT, eventually};

/// A control plane and an Envoy that knows nothing but its address.
pub(crate) struct Mesh {
    life: Lifecycle,
    plane: Lifecycle,
    pub(crate) cache: Arc<Cache>,
    pub(crate) event_log: EventLog,
    address: SocketAddr,
    /// Keeps the address ours while the control plane is away.
    _port: ReservedPort,
    pub(crate) envoy: Serving,
}

/// A control plane with nothing to show yet, and the scope that it stops with.
async fn control_plane(
    at: SocketAddr,
    policy: OnRejection,
    life: &Lifecycle,
) -> (Arc<Cache>, EventLog, SocketAddr, Lifecycle) {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let scope = life.child();
    let (cache, event_log) = (Arc::new(Cache::default().on_rejection(policy)), EventLog::default());
    let server = Server::builder(Arc::clone(&cache), scope.token()).event_log(event_log.clone()).build();
    scope.spawn(async move { server.serve(listener).await.unwrap() });
    (cache, event_log, address, scope)
}

impl Mesh {
    pub(crate) async fn start(variant: EnvoyXdsVariant, first: Snapshot, policy: OnRejection) -> Self {
        let life = Lifecycle::default();
        let port = ReservedPort::new((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (cache, event_log, address, plane) = control_plane(port.address(), policy, &life).await;
        cache.set(EVERYONE, first);
        let envoy = an_envoy(address, variant, &life).await;
        Self { life, plane, cache, event_log, address, _port: port, envoy }
    }

    /// Publishes, and waits until Envoy accepted all of it.
    pub(crate) async fn show(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        self.cache.set(EVERYONE, Arc::clone(&snapshot));
        self.accepted(&snapshot).await;
    }

    pub(crate) async fn accepted(&self, snapshot: &Arc<Snapshot>) {
        eventually("Envoy's ACKs", async || {
            let accepted = self.cache.accepted(EVERYONE);
            let it_is = accepted.is_some_and(|accepted| Arc::ptr_eq(&accepted, snapshot));
            let last = self.event_log.events().last().map(ToString::to_string);
            if it_is { Ok(()) } else { Err(last.unwrap_or_default()) }
        })
        .await;
    }

    pub(crate) async fn listener(&self) -> SocketAddr {
        eventually("the listener", async || {
            let listeners = self.envoy.admin().listeners().await.map_err(|error| error.to_string())?;
            listeners.first().map(|listener| listener.address).ok_or_else(|| "none".to_owned())
        })
        .await
    }

    pub(crate) fn sent_since(&self, mark: u64) -> Vec<String> {
        let sent = |said: &EventKind| matches!(said, EventKind::Response { .. });
        self.event_log
            .since(mark)
            .iter()
            .filter(|event| sent(&event.kind))
            .map(|event| event.type_name.clone())
            .collect()
    }

    pub(crate) async fn end(self) {
        self.envoy.stop().await;
        self.life.shut_down(GRACE).await.unwrap();
        self.plane.shut_down(GRACE).await.unwrap();
    }
}

pub(crate) async fn an_envoy(
    control_plane: SocketAddr,
    variant: EnvoyXdsVariant,
    life: &Lifecycle,
) -> Serving {
    let choice = std::env::var_os("ENVOY");
    let program = tools::envoy(choice.as_deref().map(Path::new)).await.unwrap();
    let bootstrap = Bootstrap::new("envoy-under-test", control_plane).variant(variant);
    let envoy = Envoy::new(&program, bootstrap.to_yaml());
    envoy.start(life).await.unwrap().ready(Duration::from_secs(60)).await.unwrap()
}

/// Stops the control plane and starts one that shares nothing with it but the port and this snapshot.
pub(crate) async fn replaced(mesh: Mesh, then: Snapshot) -> Mesh {
    mesh.plane.shut_down(GRACE).await.unwrap();
    let (cache, event_log, address, plane) = control_plane(mesh.address, OnRejection::Keep, &mesh.life).await;
    // The client is back before there is a snapshot: it must wait, and must not get an empty response.
    let asked = async |kind: ResourceType| {
        let asks = event_log.wait_for(0, |event| {
            event.type_name == kind.service() && matches!(event.kind, EventKind::Request { .. })
        });
        tokio::time::timeout(LIMIT, asks).await.expect("Envoy comes back and asks");
    };
    for kind in [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener, ResourceType::Route]
    {
        asked(kind).await;
    }
    cache.set(EVERYONE, then);
    Mesh { cache, event_log, address, plane, ..mesh }
}
