//! The control plane and a foreign client without a proxy: the gRPC library for Python, which asks by names
//! (listener, then route, then clusters, then endpoints) where Envoy asks for everything.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use shared::child;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::proto::echo::EchoReply;
use shared::xds::cache::EVERYONE;
use shared::xds::dialogue::Said;
use shared::xds::make::{self, LocalityEndpoints};
use shared::xds::resource::Message;
use shared::xds::{Cache, Dialogue, Resource, ResourceType, Server, Snapshot};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);

/// The version that was tried. Another one may demand more of a resource.
const GRPCIO: &str = "grpcio==1.85.1";

/// Installs the library for this test alone, once.
async fn grpcio() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let installed = folder.join(GRPCIO.replace("==", "-"));
    if !installed.exists() {
        let fresh = tempfile::tempdir_in(folder).unwrap();
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target"]);
        pip.arg(fresh.path()).arg(GRPCIO);
        let output = child::output(pip, LIMIT).await.unwrap();
        assert!(output.status.success(), "pip: {}", String::from_utf8_lossy(&output.stderr));
        // Two tests may have installed it; either result will do.
        if std::fs::rename(fresh.path(), &installed).is_err() {
            assert!(installed.exists());
        }
    }
    installed
}

/// The client, and the two ends of its conversation.
struct Client {
    child: child::Child,
    questions: tokio::process::ChildStdin,
    answers: Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Client {
    async fn start(target: &str, control_plane: SocketAddr) -> Self {
        let bootstrap = serde_json::json!({
            "xds_servers": [{
                "server_uri": control_plane.to_string(),
                "channel_creds": [{ "type": "insecure" }],
                "server_features": ["xds_v3"],
            }],
            "node": { "id": "proxyless-under-test" },
        });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/proxyless_client.py");
        let mut python = Command::new("python3");
        python.arg(script).arg(target);
        python.env("PYTHONPATH", grpcio().await).env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.to_string());
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = child::spawn(python).await.unwrap();
        let questions = child.stdin().unwrap();
        let answers = BufReader::new(child.stdout().unwrap()).lines();
        Self { child, questions, answers }
    }

    /// Makes this many calls; who answered how often, failures by their status code.
    async fn calls(&mut self, count: usize) -> BTreeMap<String, usize> {
        self.questions.write_all(format!("{count}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(LIMIT, self.answers.next_line()).await.expect("an answer");
        serde_json::from_str(&answer.unwrap().expect("the client still runs")).unwrap()
    }

    /// Calls until only these backends answer, and nothing fails on the way.
    async fn until_only(&mut self, backends: &[&str]) {
        let start = tokio::time::Instant::now();
        loop {
            let seen = self.calls(20).await;
            let names: Vec<&str> = seen.keys().map(String::as_str).collect();
            assert!(names.iter().all(|name| ["blue", "green"].contains(name)), "{seen:?}");
            if names == backends {
                return;
            }
            assert!(start.elapsed() < LIMIT, "still {seen:?}");
        }
    }

    async fn end(mut self) {
        drop(self.questions);
        assert!(self.child.wait().await.unwrap().success());
    }
}

/// A gRPC backend that answers every call with its name.
async fn backend(name: &'static str, life: &Lifecycle) -> SocketAddr {
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let reply = EchoReply { backend: name.to_owned(), ..EchoReply::default() }.encode_to_vec();
    let mut message = vec![0];
    message.extend_from_slice(&u32::try_from(reply.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&reply);
    let message = Bytes::from(message);
    let stop = life.token();
    life.spawn(async move {
        let answer = move |_| {
            let ok = [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))];
            let frames = [Frame::data(message.clone()), Frame::trailers(ok.into_iter().collect())];
            let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, hyper::Error>)));
            let answer = hyper::Response::builder().header("content-type", "application/grpc").body(body);
            std::future::ready(answer)
        };
        while let Some(Ok((connection, _))) = stop.run_until_cancelled(listener.accept()).await {
            let service = hyper::service::service_fn(answer.clone());
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(connection), service);
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(serving).await });
        }
    });
    address
}

fn resource<M: Message>(message: &M) -> Resource {
    Resource::new(message).unwrap()
}

/// `xds:///echo` goes to this cluster, which has these backends.
fn world(cluster: &str, backends: &[SocketAddr]) -> Snapshot {
    let place =
        LocalityEndpoints { region: "here".into(), weight: 1, priority: 0, addresses: backends.to_vec() };
    Snapshot::new([
        resource(&make::cluster(cluster)),
        resource(&make::endpoints(cluster, &[place])),
        resource(&make::api_listener("echo", "echo-route")),
        resource(&make::route("echo-route", cluster)),
    ])
    .unwrap()
}

#[tokio::test]
async fn a_proxyless_client_follows_the_world_without_a_failed_call() {
    let life = Lifecycle::default();
    let (blue, green) = (backend("blue", &life).await, backend("green", &life).await);
    let (cache, dialogue) = (Arc::new(Cache::default()), Dialogue::default());
    let server = Server::builder(Arc::clone(&cache), life.token()).dialogue(dialogue.clone()).build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    life.spawn(async move { server.serve(listener).await.unwrap() });

    cache.set(EVERYONE, world("first", &[blue, green]));
    let mut client = Client::start("xds:///echo", address).await;
    assert_eq!(client.calls(1).await.values().sum::<usize>(), 1);
    client.until_only(&["blue", "green"]).await;
    // An endpoint goes; then the whole cluster is swapped for another one.
    cache.set(EVERYONE, world("first", &[green]));
    client.until_only(&["green"]).await;
    cache.set(EVERYONE, world("second", &[blue]));
    client.until_only(&["blue"]).await;

    let events = dialogue.events();
    let refused = events.iter().find(|event| matches!(event.said, Said::Nack { .. }));
    assert!(refused.is_none(), "{}", refused.unwrap());
    let asked: Vec<String> = events
        .iter()
        .filter(|event| matches!(event.said, Said::Asked { .. }))
        .map(|event| event.kind.clone())
        .collect();
    assert_eq!(&asked[..4], ["LDS", "RDS", "CDS", "EDS"]);

    // Endpoints without a locality: gRPC refuses them, says why, and keeps what it has.
    let mark = dialogue.mark();
    let place = LocalityEndpoints { region: String::new(), weight: 1, priority: 0, addresses: vec![green] };
    let mut homeless = make::endpoints("second", &[place]);
    homeless.endpoints[0].locality = None;
    let resources = world("second", &[blue]);
    let others = resources.resources().filter(|one| one.kind() != ResourceType::Endpoints);
    let bad = others.cloned().chain([Arc::new(resource(&homeless))]);
    cache.set(EVERYONE, Snapshot::new(bad).unwrap());
    let nack = dialogue.wait_for(mark, |event| matches!(event.said, Said::Nack { .. }));
    let nack = tokio::time::timeout(LIMIT, nack).await.expect("a NACK");
    assert!(matches!(&nack.said, Said::Nack { message, .. } if message.contains("locality")), "{nack}");
    assert_eq!(client.calls(20).await, BTreeMap::from([("blue".to_owned(), 20)]));

    client.end().await;
    life.shut_down(GRACE).await.unwrap();
}
