//! The echo service and its caller in one process: the four kinds of call, their bounds, and leaving.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use demo4_lb::backend::{Backend, MAX_REPLIES, MAX_REQUESTS, MAX_SHUTDOWN_DELAY};
use demo4_lb::caller::{Caller, DEADLINE, Kind, Load, Tally};
use shared::lifecycle::Lifecycle;
use shared::proto::echo::echo_client::EchoClient;
use shared::proto::echo::{EchoRequest, RepeatRequest};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, iter};
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const LIMIT: Duration = Duration::from_secs(20);

async fn backend(name: &str, life: &Lifecycle) -> Backend {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    Backend::start(name, "here", listener, life)
}

async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn caller(address: SocketAddr) -> Caller {
    Caller::connect(&format!("http://{address}")).unwrap()
}

fn text(text: &str) -> EchoRequest {
    EchoRequest { text: text.to_owned() }
}

#[tokio::test]
async fn all_four_kinds_of_call_are_answered_and_counted() {
    let life = Lifecycle::default();
    let backend = backend("b1", &life).await;
    let mut client = EchoClient::new(channel(backend.address()).await);

    let reply = client.say(text("one")).await.unwrap().into_inner();
    assert_eq!((reply.text.as_str(), reply.backend.as_str()), ("one", "b1"));

    let repeat = RepeatRequest { text: "again".into(), count: MAX_REPLIES };
    let replies = client.repeat(repeat).await.unwrap().into_inner();
    let replies: Vec<_> = replies.collect::<Result<_, _>>().await.unwrap();
    assert_eq!(replies.len(), MAX_REPLIES as usize);
    assert!(replies.iter().all(|reply| reply.text == "again" && reply.locality == "here"));

    let sum = client.collect(iter([text("a"), text(""), text("b")])).await.unwrap();
    let sum = sum.into_inner();
    assert_eq!((sum.count, sum.text.as_str(), sum.backend.as_str()), (3, "a  b", "b1"));

    let (requests, sent) = mpsc::channel(1);
    let mut replies = client.chat(ReceiverStream::new(sent)).await.unwrap().into_inner();
    for word in ["ping", "pong"] {
        requests.send(text(word)).await.unwrap();
        assert_eq!(replies.message().await.unwrap().unwrap().text, word);
    }
    drop(requests);
    assert!(replies.message().await.unwrap().is_none());

    assert_eq!(backend.calls(), 4);
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test]
async fn reflection_lists_services_and_message_types() {
    let life = Lifecycle::default();
    let backend = backend("b1", &life).await;
    let mut client = ServerReflectionClient::new(channel(backend.address()).await);
    let queries = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("mesh.echo.v1.Echo".to_owned()),
    ];
    let requests = queries
        .map(|question| ServerReflectionRequest { host: String::new(), message_request: Some(question) });
    let responses = client.server_reflection_info(iter(requests)).await.unwrap().into_inner();
    let responses: Vec<_> = responses.map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let [MessageResponse::ListServicesResponse(listed), MessageResponse::FileDescriptorResponse(files)] =
        responses.as_slice()
    else {
        panic!("{responses:?}")
    };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for service in ["mesh.echo.v1.Echo", "grpc.health.v1.Health"] {
        assert!(names.contains(&service), "{service} is not among {names:?}");
    }
    let holds = |word: &[u8]| {
        files.file_descriptor_proto.iter().any(|file| file.windows(word.len()).any(|at| at == word))
    };
    for word in ["Say", "Repeat", "Collect", "Chat", "EchoReply"] {
        assert!(holds(word.as_bytes()), "no {word}");
    }
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_call_over_a_limit_is_rejected_with_the_field_and_the_limit() {
    let life = Lifecycle::default();
    let backend = backend("b1", &life).await;
    let mut client = EchoClient::new(channel(backend.address()).await);

    let error =
        client.repeat(RepeatRequest { text: String::new(), count: MAX_REPLIES + 1 }).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("count") && error.message().contains("10000"), "{error}");

    let endless = std::iter::repeat_n(text(""), MAX_REQUESTS as usize + 1);
    let error = client.collect(iter(endless)).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    let long = text(&"x".repeat(600_000));
    let error = client.collect(iter([long.clone(), long])).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);

    assert_eq!(backend.calls(), 0);
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_draining_backend_reports_not_serving_and_ends_its_chats_without_an_error() {
    let life = Lifecycle::default();
    let backend = backend("b1", &life).await;
    let channel = channel(backend.address()).await;
    let watch = HealthClient::new(channel.clone())
        .watch(HealthCheckRequest { service: "mesh.echo.v1.Echo".into() })
        .await;
    let mut health = watch.unwrap().into_inner();
    let status = |status: ServingStatus| tonic_health::pb::health_check_response::ServingStatus::from(status);
    let health_status = health.message().await.unwrap().unwrap();
    assert_eq!(health_status.status(), status(ServingStatus::Serving));

    let (requests, sent) = mpsc::channel(1);
    let chat = EchoClient::new(channel).chat(ReceiverStream::new(sent)).await;
    let mut chat = chat.unwrap().into_inner();
    requests.send(text("first")).await.unwrap();
    assert_eq!(chat.message().await.unwrap().unwrap().text, "first");

    // It does not wait for its grace to end the chat: an end by force would be an error, which is checked below.
    tokio::time::timeout(LIMIT, backend.drain()).await.unwrap();

    let health_status = health.message().await.unwrap().unwrap();
    assert_eq!(health_status.status(), status(ServingStatus::NotServing));
    assert!(health.message().await.unwrap().is_none());
    assert!(chat.message().await.unwrap().is_none(), "the chat ends without an error");
    let after = caller(backend.address()).call().await;
    assert_eq!(after.result.unwrap_err().code(), Code::Unavailable);
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_client_that_never_finishes_does_not_block_draining() {
    let life = Lifecycle::default();
    let backend = backend("b1", &life).await;
    let mut client = EchoClient::new(channel(backend.address()).await);
    let repeat = RepeatRequest { text: "x".repeat(100_000), count: MAX_REPLIES };
    // Never read: the window fills up, and the server's replies wait.
    let _unread = client.repeat(repeat).await.unwrap();
    let mut client = EchoClient::new(channel(backend.address()).await);
    let (requests, never_ends) = mpsc::channel(1);
    let collect = tokio::spawn({
        let mut client = client.clone();
        async move { client.collect(ReceiverStream::new(never_ends)).await }
    });
    // There is room for one: when the second is in, the first is on its way, and the call is open.
    requests.send(text("one")).await.unwrap();
    requests.send(text("two")).await.unwrap();
    client.say(text("after it")).await.unwrap();

    tokio::time::timeout(LIMIT, backend.drain()).await.unwrap();
    let ended = collect.await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert!(TcpListener::bind(backend.address()).await.is_ok());
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_backend_reports_not_serving_and_answers_every_kind_of_call_during_the_shutdown_delay() {
    let life = Lifecycle::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    // Longer than any machine is slow; it is cut short in the end.
    let hour = Duration::from_secs(3600);
    let backend = Backend::start_with_shutdown_delay(hour, "b1", "here", listener, &life);
    let calls = async {
        shared::poll::wait_until("NOT_SERVING", Duration::from_millis(1), LIMIT, async || {
            if shared::health::probe(backend.address()).await.is_ok() { Err("it serves") } else { Ok(()) }
        })
        .await
        .unwrap();
        for kind in Kind::ALL {
            // A new connection each: the listener is open.
            let seen = caller(backend.address()).call_kind(kind, 3).await.unwrap();
            assert_eq!(seen.texts, kind.expected(3), "{kind:?}");
        }
    };
    tokio::select! {
        biased;
        () = backend.drain() => panic!("it left at once"),
        () = calls => {}
    }
    backend.kill().await;
    assert!(caller(backend.address()).call().await.result.is_err(), "nobody is there any more");
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_block_shutdown_after_the_delay() {
    let life = Lifecycle::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let backend = Backend::start_with_shutdown_delay(MAX_SHUTDOWN_DELAY, "b1", "here", listener, &life);
    let mut client = EchoClient::new(channel(backend.address()).await);
    let repeat = RepeatRequest { text: "x".repeat(100_000), count: MAX_REPLIES };
    // Never read: the window fills up, and the server's replies wait.
    let _unread = client.repeat(repeat).await.unwrap();
    let started = Instant::now();
    tokio::time::timeout(LIMIT, backend.drain()).await.unwrap();
    assert!(started.elapsed() >= MAX_SHUTDOWN_DELAY, "{:?}", started.elapsed());
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_killed_backend_aborts_its_calls_at_once() {
    let life = Lifecycle::default();
    let backend = backend("b1", &life).await;
    let mut client = EchoClient::new(channel(backend.address()).await);
    let (_requests, sent) = mpsc::channel(1);
    let mut chat = client.chat(ReceiverStream::new(sent)).await.unwrap().into_inner();
    tokio::time::timeout(LIMIT, backend.kill()).await.unwrap();
    // A backend that drained would end the chat in good order instead.
    let ended = tokio::time::timeout(LIMIT, chat.message()).await.unwrap();
    assert!(ended.is_err(), "a crash is not an orderly end");
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test]
async fn no_call_of_a_steady_load_is_lost_or_repeated() {
    let life = Lifecycle::default();
    let backend = backend("b1", &life).await;
    let mut load = Load::start(caller(backend.address()), 500, &life);
    assert!(load.first_reply_from("b1", LIMIT).await.is_some());
    assert!(load.first_reply_from("nobody", Duration::from_millis(20)).await.is_none());
    assert!(load.completed() > 0);
    let calls = load.stop().await;
    assert_eq!(calls.len() as u64, backend.calls());
    assert!(calls.iter().all(|call| call.answered_by("b1")));
    assert!(calls.is_sorted_by_key(|call| call.started));
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_load_does_not_wait_for_slow_replies() {
    // Accepted by the kernel, never answered: a black hole.
    let silent_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let life = Lifecycle::default();
    let started = Instant::now();
    let calls =
        Load::with_count(50, caller(silent_listener.local_addr().unwrap()), 1000, &life).finish().await;
    // One after the other, the calls would take 50 deadlines.
    assert!(started.elapsed() < DEADLINE * 25, "{:?}", started.elapsed());
    let tally: Tally = calls.iter().collect();
    assert_eq!(tally.failed(), 50);
    assert_eq!(tally.failures.get("DEADLINE_EXCEEDED"), Some(&50), "{:?}", tally.first_failure);
    life.shut_down(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_load_ends_with_its_lifecycle() {
    let life = Lifecycle::default();
    let backend = backend("b1", &life).await;
    let load = Load::start(caller(backend.address()), 1, &life);
    life.shut_down(LIMIT).await.unwrap();
    assert!(load.completed() <= 1);
}
