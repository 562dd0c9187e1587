//! The control plane and the real Envoy, in both dialects: what Envoy then holds, and what its callers get.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shared::envoy::admin::{Kind, State};
use shared::envoy::{Bootstrap, Envoy, Serving, Variant};
use shared::lifecycle::{GRACE, Lifecycle};
use shared::ports::Held;
use shared::tools;
use shared::xds::cache::{EVERYONE, OnRefusal};
use shared::xds::dialogue::Said;
use shared::xds::make::{self, LocalityEndpoints};
use shared::xds::resource::Message;
use shared::xds::stream::Traits;
use shared::xds::{Cache, Dialogue, Resource, ResourceType, Server, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Far more than anything takes, while other tests use both cores; less than Envoy's warming limit of
/// 15 s, which must not be what we wait for.
const LIMIT: Duration = Duration::from_secs(12);

const EVERY: Duration = Duration::from_millis(5);

/// A control plane and an Envoy that knows nothing but its address.
struct Mesh {
    life: Lifecycle,
    plane: Lifecycle,
    cache: Arc<Cache>,
    dialogue: Dialogue,
    address: SocketAddr,
    /// Keeps the address ours while the control plane is away.
    _port: Held,
    envoy: Serving,
}

/// A control plane with nothing to show yet, and the scope that it stops with.
async fn control_plane(
    at: SocketAddr,
    policy: OnRefusal,
    life: &Lifecycle,
) -> (Arc<Cache>, Dialogue, SocketAddr, Lifecycle) {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let scope = life.child();
    let (cache, dialogue) = (Arc::new(Cache::default().on_refusal(policy)), Dialogue::default());
    let server = Server::builder(Arc::clone(&cache), scope.token()).dialogue(dialogue.clone()).build();
    scope.spawn(async move { server.serve(listener).await.unwrap() });
    (cache, dialogue, address, scope)
}

impl Mesh {
    async fn start(variant: Variant, first: Snapshot, policy: OnRefusal) -> Self {
        let life = Lifecycle::default();
        let port = Held::new((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (cache, dialogue, address, plane) = control_plane(port.address(), policy, &life).await;
        cache.set(EVERYONE, first);
        let envoy = an_envoy(address, variant, &life).await;
        Self { life, plane, cache, dialogue, address, _port: port, envoy }
    }

    /// In place of the Envoy that was there, one that holds nothing yet.
    async fn renew(&mut self, variant: Variant) {
        let newcomer = an_envoy(self.address, variant, &self.life).await;
        std::mem::replace(&mut self.envoy, newcomer).stop().await;
    }

    /// Publishes, and waits until Envoy accepted all of it.
    async fn show(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        self.cache.set(EVERYONE, Arc::clone(&snapshot));
        self.accepted(&snapshot).await;
    }

    async fn accepted(&self, snapshot: &Arc<Snapshot>) {
        eventually("Envoy's ACKs", async || {
            let accepted = self.cache.accepted(EVERYONE);
            let it_is = accepted.is_some_and(|accepted| Arc::ptr_eq(&accepted, snapshot));
            let last = self.dialogue.events().last().map(ToString::to_string);
            if it_is { Ok(()) } else { Err(last.unwrap_or_default()) }
        })
        .await;
    }

    async fn listener(&self) -> SocketAddr {
        eventually("the listener", async || {
            let listeners = self.envoy.admin().listeners().await.map_err(|error| error.to_string())?;
            listeners.first().map(|listener| listener.address).ok_or_else(|| "none".to_owned())
        })
        .await
    }

    fn sent_since(&self, mark: u64) -> Vec<String> {
        let sent = |said: &Said| matches!(said, Said::Sent { .. });
        self.dialogue.since(mark).iter().filter(|event| sent(&event.said)).map(|e| e.kind.clone()).collect()
    }

    async fn end(self) {
        self.envoy.stop().await;
        self.life.shut_down(GRACE).await.unwrap();
        self.plane.shut_down(GRACE).await.unwrap();
    }
}

async fn an_envoy(control_plane: SocketAddr, variant: Variant, life: &Lifecycle) -> Serving {
    let choice = std::env::var_os("ENVOY");
    let program = tools::envoy(choice.as_deref().map(Path::new)).await.unwrap();
    let bootstrap = Bootstrap::new("envoy-under-test", control_plane).variant(variant);
    let envoy = Envoy::new(&program, bootstrap.to_yaml());
    envoy.start(life).await.unwrap().ready(Duration::from_secs(60)).await.unwrap()
}

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

/// An upstream that answers every request with its name, over HTTP/2 as `make::cluster` wants it.
async fn upstream(name: &'static str, life: &Lifecycle) -> SocketAddr {
    use http_body_util::Full;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = life.token();
    life.spawn(async move {
        let answer = move |_| {
            std::future::ready(Ok::<_, hyper::Error>(hyper::Response::new(Full::<bytes::Bytes>::from(name))))
        };
        while let Some(Ok((connection, _))) = stop.run_until_cancelled(listener.accept()).await {
            let service = hyper::service::service_fn(answer);
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(connection), service);
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(serving).await });
        }
    });
    address
}

/// One HTTP/1.1 request; the status and the body.
async fn get(at: SocketAddr) -> Result<(u16, String), String> {
    let asking = async {
        let mut connection = TcpStream::connect(at).await?;
        connection.write_all(b"GET / HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(LIMIT, asking).await.map_err(|_| "no answer".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let status =
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| answer.clone())?;
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    Ok((status, body.to_owned()))
}

fn resource<M: Message>(message: &M) -> Resource {
    Resource::new(message).unwrap()
}

/// A listener on any port, its route to `cluster`, and the cluster with one upstream.
fn world(cluster: &str, at: SocketAddr) -> Vec<Resource> {
    let place = LocalityEndpoints { region: "here".into(), weight: 1, priority: 0, addresses: vec![at] };
    vec![
        resource(&make::cluster(cluster)),
        resource(&make::endpoints(cluster, &[place])),
        resource(&make::listener("edge", (Ipv4Addr::LOCALHOST, 0).into(), "edge")),
        resource(&make::route("edge", cluster)),
    ]
}

fn snapshot(resources: Vec<Resource>) -> Snapshot {
    Snapshot::new(resources).unwrap()
}

/// A port that nothing listens on, for worlds whose upstream is not called.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

macro_rules! in_both_dialects {
    ($($test:ident: $body:ident;)*) => {$(
        mod $test {
            use super::*;
            #[tokio::test]
            async fn sotw() {
                $body(Variant::Sotw).await;
            }
            #[tokio::test]
            async fn delta() {
                $body(Variant::Delta).await;
            }
        }
    )*};
}
in_both_dialects! {
    envoy_holds_exactly_the_snapshot: holds_the_snapshot;
    a_changed_cluster_is_warm_at_once: changed_cluster;
    swapping_clusters_fails_no_request: swap;
    a_refused_listener_leaves_traffic_alone_and_is_rolled_back: refusal;
    without_rollback_a_refused_version_waits_for_its_correction: correction;
    a_returning_control_plane_repeats_nothing: returning;
    what_was_removed_while_the_control_plane_was_away_is_removed: removed_meanwhile;
}

/// A time to live may be sent to clients that say they support one; README.md builds on Envoy being none of them.
#[tokio::test]
async fn c49_envoy_does_not_say_that_it_supports_a_time_to_live() {
    let (life, heard) = (Lifecycle::default(), Arc::new(Mutex::new(Vec::new())));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let cache = Arc::new(Cache::default());
    cache.set(EVERYONE, Snapshot::default());
    let features = Arc::clone(&heard);
    let server = Server::builder(cache, life.token()).traits(move |node| {
        features.lock().unwrap().push(node.client_features.clone());
        Traits::default()
    });
    life.spawn(async move { server.build().serve(listener).await.unwrap() });
    let envoy = an_envoy(address, Variant::Sotw, &life).await;
    envoy.stop().await;
    life.shut_down(GRACE).await.unwrap();
    let heard = heard.lock().unwrap();
    assert!(!heard.is_empty(), "it introduced itself");
    assert!(
        !heard.iter().flatten().any(|feature| feature == "xds.config.supports-resource-ttl"),
        "{heard:?}"
    );
}

async fn holds_the_snapshot(variant: Variant) {
    let mesh = Mesh::start(variant, snapshot(world("blue", NOWHERE)), OnRefusal::Keep).await;
    let current = mesh.cache.snapshot(EVERYONE).unwrap();
    mesh.accepted(&current).await;
    let held = eventually("all resources in Envoy's dump", async || {
        let dynamic = mesh.envoy.admin().dynamic().await.map_err(|error| error.to_string())?;
        let warm = dynamic.iter().all(|one| matches!(one.state, None | Some(State::Active)));
        if dynamic.len() >= 4 && warm { Ok(dynamic) } else { Err(format!("{dynamic:?}")) }
    })
    .await;
    for (kind, ours) in [
        (Kind::Cluster, ResourceType::Cluster),
        (Kind::Endpoints, ResourceType::Endpoints),
        (Kind::Listener, ResourceType::Listener),
        (Kind::Route, ResourceType::Route),
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

async fn changed_cluster(variant: Variant) {
    let mesh = Mesh::start(variant, snapshot(world("blue", NOWHERE)), OnRefusal::Keep).await;
    mesh.listener().await;
    let mark = mesh.dialogue.mark();
    let mut resources = world("blue", NOWHERE);
    let mut changed = make::cluster("blue");
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

async fn swap(variant: Variant) {
    let life = Lifecycle::default();
    let (blue, green) = (upstream("blue", &life).await, upstream("green", &life).await);
    let mesh = Mesh::start(variant, snapshot(world("blue", blue)), OnRefusal::Keep).await;
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
    let mark = mesh.dialogue.mark();
    // Blue and green change places at once; the order in which Envoy is told is the control plane's work.
    mesh.show(snapshot(world("green", green))).await;
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

/// A listener that Envoy refuses: it names a filter that no Envoy has.
fn bad_listener() -> Resource {
    resource(&make::unknown_filter(make::listener("edge", (Ipv4Addr::LOCALHOST, 0).into(), "edge")))
}

fn world_with_bad_listener(at: SocketAddr) -> Vec<Resource> {
    let mut resources = world("blue", at);
    resources[2] = bad_listener();
    resources
}

async fn nack(mesh: &Mesh, mark: u64) -> String {
    let refused = mesh.dialogue.wait_for(mark, |event| matches!(event.said, Said::Nack { .. }));
    let event = tokio::time::timeout(LIMIT, refused).await.expect("a NACK");
    match &event.said {
        Said::Nack { message, names, .. } => {
            assert_eq!(names.to_string(), "[edge]");
            assert_eq!(&*event.node, "envoy-under-test");
            message.clone()
        }
        other => panic!("{other:?}"),
    }
}

async fn refusal(variant: Variant) {
    let life = Lifecycle::default();
    let blue = upstream("blue", &life).await;
    let mesh = Mesh::start(variant, snapshot(world("blue", blue)), OnRefusal::RollBack).await;
    let at = mesh.listener().await;
    let good = mesh.cache.snapshot(EVERYONE).unwrap();
    mesh.accepted(&good).await;

    let mark = mesh.dialogue.mark();
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

async fn correction(variant: Variant) {
    let life = Lifecycle::default();
    let (blue, green) = (upstream("blue", &life).await, upstream("green", &life).await);
    let mut mesh = Mesh::start(variant, snapshot(world("blue", blue)), OnRefusal::Keep).await;
    let at = mesh.listener().await;
    let good = mesh.cache.snapshot(EVERYONE).unwrap();
    mesh.accepted(&good).await;

    let mark = mesh.dialogue.mark();
    mesh.cache.set(EVERYONE, snapshot(world_with_bad_listener(blue)));
    nack(&mesh, mark).await;
    // The same bad listener once more, with another change beside it: the change goes out, the listener not.
    let mark = mesh.dialogue.mark();
    mesh.cache.set(EVERYONE, snapshot(world_with_bad_listener(green)));
    eventually("the other change", async || match get(at).await {
        Ok((200, body)) if body == "green" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(mesh.sent_since(mark), ["EDS"]);
    // Whoever comes new is shown what was accepted last in place of the refused, however often.
    for _ in 0..2 {
        mesh.renew(variant).await;
        let at = mesh.listener().await;
        assert_eq!(get(at).await, Ok((200, "green".to_owned())));
        assert!(Arc::ptr_eq(&mesh.cache.accepted(EVERYONE).unwrap(), &good));
    }
    let at = mesh.listener().await;
    // A correction ends it.
    mesh.show(snapshot(world("blue", blue))).await;
    eventually("the correction", async || match get(at).await {
        Ok((200, body)) if body == "blue" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    mesh.end().await;
    life.shut_down(GRACE).await.unwrap();
}

/// Stops the control plane and starts one that shares nothing with it but the port and this snapshot.
async fn replaced(mesh: Mesh, then: Snapshot) -> Mesh {
    mesh.plane.shut_down(GRACE).await.unwrap();
    let (cache, dialogue, address, plane) = control_plane(mesh.address, OnRefusal::Keep, &mesh.life).await;
    // The client is back before there is a snapshot: it must wait, and must not be told that nothing is left.
    let asked = async |kind: ResourceType| {
        let asks = dialogue
            .wait_for(0, |event| event.kind == kind.service() && matches!(event.said, Said::Asked { .. }));
        tokio::time::timeout(LIMIT, asks).await.expect("Envoy comes back and asks");
    };
    for kind in [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener, ResourceType::Route]
    {
        asked(kind).await;
    }
    cache.set(EVERYONE, then);
    Mesh { cache, dialogue, address, plane, ..mesh }
}

async fn returning(variant: Variant) {
    let mesh = Mesh::start(variant, snapshot(world("blue", NOWHERE)), OnRefusal::Keep).await;
    mesh.accepted(&mesh.cache.snapshot(EVERYONE).unwrap()).await;
    let mesh = replaced(mesh, snapshot(world("blue", NOWHERE))).await;
    mesh.accepted(&mesh.cache.snapshot(EVERYONE).unwrap()).await;
    assert_eq!(mesh.sent_since(0), [""; 0]);
    mesh.end().await;
}

async fn removed_meanwhile(variant: Variant) {
    let mut both = world("blue", NOWHERE);
    both.extend(world("green", NOWHERE).into_iter().take(2));
    let mesh = Mesh::start(variant, snapshot(both), OnRefusal::Keep).await;
    mesh.accepted(&mesh.cache.snapshot(EVERYONE).unwrap()).await;
    let mesh = replaced(mesh, snapshot(world("blue", NOWHERE))).await;
    eventually("green's end", async || {
        let clusters = mesh.envoy.admin().clusters().await.map_err(|error| error.to_string())?;
        let names: Vec<String> = clusters.into_iter().map(|cluster| cluster.name).collect();
        if names.iter().any(|name| name == "green") { Err(format!("{names:?}")) } else { Ok(()) }
    })
    .await;
    mesh.end().await;
}
