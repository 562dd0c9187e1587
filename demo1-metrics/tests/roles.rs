//! Services and load as programs of their own, and what they do when their peers are wrong, slow or gone.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use demo1_metrics::exposition::{self, Sample};
use demo1_metrics::load::Plan;
use demo1_metrics::prometheus::{Api, PrometheusError};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use shared::client::{Client, ClientError, MAX_BODY_SIZE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SERVICE: &str = env!("CARGO_BIN_EXE_demo1-service");
const LOAD: &str = env!("CARGO_BIN_EXE_demo1-load");
const LIMIT: Duration = Duration::from_secs(60);

struct Role {
    child: Child,
    address: SocketAddr,
}

impl Role {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(SERVICE);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().find_map(|word| word.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("no address in {line:?}")) }
    }

    /// Sends a request; status and JSON (or text) answered.
    async fn call(&self, method: Method, path: &str, headers: &[(&str, &[u8])], body: &str) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let answer = Client::new(LIMIT).send(request).await.unwrap();
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, &[], "").await
    }

    async fn metrics(&self) -> Vec<Sample> {
        let (status, page) = self.get("/metrics").await;
        assert_eq!(status, 200);
        exposition::samples(page.as_str().unwrap())
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A peer that reads a request's first bytes, sends these bytes, and hangs up; and again.
async fn peer(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let (listener, answer) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), answer.into());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                _ = connection.read(&mut [0; 4096]).await;
                _ = connection.write_all(&answer).await;
            });
        }
    });
    address
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_service_calls_those_it_was_told_to_hands_ids_on_and_counts() {
    let (b, c) = (Role::start(&["--name", "b"]), Role::start(&["--name", "c"]));
    let calls = format!("b=http://{}/,c=http://{}/", b.address, c.address);
    let a = Role::start(&["--name", "a", "--call", &calls]);
    let ids: &[(&str, &[u8])] =
        &[("x-request-id", b"r-1"), ("traceparent", b"00-1-2-01"), ("cookie", b"secret")];
    let (status, page) = a.call(Method::GET, "/", ids, "").await;
    let page_of = |name: &str, said: Value| json!({ "service": name, "said": said, "request_id": "r-1", "traceparent": "00-1-2-01" });
    let said = json!({ "b": page_of("b", "hello".into()), "c": page_of("c", "hello".into()) });
    assert_eq!((status, page), (200, page_of("a", said)));
    for role in [&a, &b, &c] {
        let metrics = role.metrics().await;
        assert_eq!(exposition::sum(&metrics, "http_requests_total", &[("code", "200")]), 1.0);
        assert_eq!(exposition::sum(&metrics, "http_request_duration_seconds_count", &[]), 1.0);
        assert_eq!(exposition::sum(&metrics, "http_request_duration_seconds_bucket", &[("le", "+Inf")]), 1.0);
        // Nothing is left in flight, and a scrape is no request.
        assert_eq!(exposition::sum(&metrics, "http_requests_in_flight", &[]), 0.0);
    }
    let healthy = run(SERVICE, &["healthcheck", "--listen", &a.address.to_string()]);
    assert_eq!(healthy.status.code(), Some(0), "{}", text(&healthy.stderr));
}

#[tokio::test]
async fn a_fault_does_what_it_says_shows_in_the_metrics_and_ends() {
    let role = Role::start(&["--name", "b"]);
    let put = async |body: &str| role.call(Method::PUT, "/fault", &[], body).await;
    let fault = json!({ "delay_ms": 50, "error_percent": 20 });
    assert_eq!(put(&fault.to_string()).await, (200, fault));
    let mut statuses = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        statuses.push(role.get("/").await.0);
        assert!(begun.elapsed() >= Duration::from_millis(50));
    }
    // Every fifth, and not by chance.
    assert_eq!(statuses, [200, 200, 200, 200, 503, 200, 200, 200, 200, 503]);
    let metrics = role.metrics().await;
    assert_eq!(exposition::sum(&metrics, "http_requests_total", &[("code", "503")]), 2.0);
    assert_eq!(exposition::sum(&metrics, "fault_delay_seconds", &[]), 0.05);
    assert_eq!(exposition::sum(&metrics, "fault_error_ratio", &[]), 0.2);
    // The delay is in the histogram: nothing is in the buckets below it.
    assert_eq!(exposition::sum(&metrics, "http_request_duration_seconds_bucket", &[("le", "0.025")]), 0.0);
    assert_eq!(put("{}").await, (200, json!({ "delay_ms": 0, "error_percent": 0 })));
    assert_eq!(role.get("/").await.0, 200);
    assert_eq!(exposition::sum(&role.metrics().await, "fault_delay_seconds", &[]), 0.0);
}

#[tokio::test]
async fn what_is_no_fault_is_refused_with_the_reason_and_changes_nothing() {
    let role = Role::start(&["--name", "b"]);
    let long = " ".repeat(5000);
    for (body, reason) in [
        ("", "EOF"),
        ("[]", "invalid"),
        (r#"{"delay_ms": -1}"#, "invalid value"),
        (r#"{"delay_ms": 70000}"#, "invalid value"),
        (r#"{"delay_ms": 10001}"#, "at most 10000"),
        (r#"{"error_percent": 101}"#, "at most 100"),
        (r#"{"error_percent": 0.5}"#, "invalid type"),
        (r#"{"delay": 3}"#, "unknown field `delay`"),
        (&long, "longer than 4096 bytes"),
    ] {
        let (status, answer) = role.call(Method::PUT, "/fault", &[], body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["reason"].as_str().unwrap().contains(reason), "{body}: {answer}");
    }
    for (method, path) in
        [(Method::GET, "/fault"), (Method::PUT, "/metrics"), (Method::POST, "/"), (Method::PUT, "/x")]
    {
        assert_eq!(role.call(method.clone(), path, &[], "").await.0, 405, "{method} {path}");
    }
    // Bytes that are no text are handed on, and are not shown.
    let (status, page) = role.call(Method::GET, "/", &[("x-request-id", b"\xff\xfe")], "").await;
    assert_eq!((status, &page["request_id"]), (200, &Value::Null));
    assert_eq!(exposition::sum(&role.metrics().await, "http_requests_total", &[]), 1.0);
}

#[tokio::test]
async fn whatever_a_called_service_does_its_caller_answers_with_502_and_names_it() {
    let garbage = peer("\0\0 no HTTP \r\n\r\n").await;
    let half = peer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"ser").await;
    let no_json = peer(ok("hello")).await;
    let failing = peer("HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n").await;
    let endless = peer(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}",
        10 * MAX_BODY_SIZE,
        "x".repeat(MAX_BODY_SIZE + 1)
    ))
    .await;
    for (called, why) in [
        (nobody().await, "does not answer"),
        (garbage, "does not answer"),
        (half, "does not answer"),
        (no_json, "expected value"),
        (failing, "answered 503"),
        (endless, "length limit exceeded"),
    ] {
        let a = Role::start(&["--name", "a", "--call", &format!("b=http://{called}/")]);
        let (status, page) = a.get("/").await;
        let said = page["said"].as_str().unwrap();
        assert!(status == 502 && said.starts_with("b: ") && said.contains(why), "{why}: {status} {page}");
        let metrics = a.metrics().await;
        assert_eq!(exposition::sum(&metrics, "http_requests_total", &[("code", "502")]), 1.0);
    }
}

#[tokio::test]
async fn the_load_does_not_wait_for_answers_and_counts_each() {
    let role = Role::start(&["--name", "b"]);
    let target = format!("http://{}/", role.address);
    role.call(Method::PUT, "/fault", &[], r#"{"delay_ms": 300}"#).await;
    let begun = Instant::now();
    let output = run(LOAD, &["--target", &target, "--rate", "100", "--duration", "1"]);
    let (told, took) = (text(&output.stdout), begun.elapsed());
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.starts_with("100 requests in ") && told.contains("100 succeeded, 0 failed"), "{told}");
    // One after the other, 100 requests of 300 ms each would take longer than this.
    assert!(took < Duration::from_secs(30), "{took:?}");
    // Not one of them in a bucket that ends below the delay.
    let first = told.lines().nth(2).unwrap();
    assert!(first.trim_start().starts_with("up to"), "{told}");
    assert!(!["200ms", "100ms"].iter().any(|end| first.contains(end)), "{told}");
    assert_eq!(exposition::sum(&role.metrics().await, "http_requests_total", &[("code", "200")]), 100.0);

    role.call(Method::PUT, "/fault", &[], r#"{"error_percent": 10}"#).await;
    let output = run(LOAD, &["--target", &target, "--rate", "100", "--duration", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("90 succeeded, 10 failed"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("10 failed, the first: 503"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_request_that_is_held_up_counts_the_wait() {
    let uri = format!("http://{}/", peer(ok("")).await).parse().unwrap();
    let plan = Plan { uri, rate: 100, duration: Duration::from_millis(500) };
    let mut sent = 0;
    // The machine stands still for 300 ms: on one thread, nobody else gets a turn.
    let outcome = plan.run(|| {
        sent += 1;
        if sent == 10 {
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    let outcome = outcome.await;
    assert_eq!((outcome.sent, outcome.failed()), (50, 0), "{:?}", outcome.first_failure);
    // Due each 10 ms: twenty of them in the first 200 ms of it, and so at least 100 ms late, less one for rounding.
    let late = outcome.latencies.len() - outcome.latencies.count_at_most(Duration::from_millis(99));
    assert!(late >= 19, "{late}");
}

#[tokio::test]
async fn wrong_flags_end_with_2_and_name_what_to_do() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    for (program, args, expected) in [
        (SERVICE, &["--listen", &taken][..], "is taken"),
        (SERVICE, &["--call", "b"], "NAME=URI"),
        (SERVICE, &["--call", "b=not a uri"], "is no URI"),
        (SERVICE, &["--call", "b=/path"], "http://"),
        (SERVICE, &["--call", "b=https://x/"], "http://"),
        (LOAD, &["--target", "127.0.0.1:1"], "http://HOST:PORT/"),
        (LOAD, &["--target", "https://127.0.0.1/"], "http://HOST:PORT/"),
        (LOAD, &["--rate", "0"], "--rate"),
        (LOAD, &["--duration", "0"], "--duration"),
        (LOAD, &["--duration", "forever"], "--duration"),
    ] {
        let output = run(program, args);
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {complaint}");
        assert!(complaint.contains(expected), "{args:?}: {complaint}");
    }
    let gone = nobody().await.to_string();
    assert_eq!(run(SERVICE, &["healthcheck", "--listen", &gone]).status.code(), Some(1));
}

#[tokio::test]
async fn a_client_gives_up_on_whoever_is_silent() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let uri = format!("http://{}/", silent.local_addr().unwrap()).parse().unwrap();
    let refused = Client::new(Duration::from_millis(100)).get(uri).await.unwrap_err();
    assert!(matches!(refused, ClientError::Timeout { .. }), "{refused}");
    assert!(refused.to_string().contains("did not answer within 100ms"), "{refused}");
}

#[tokio::test]
async fn whatever_a_prometheus_answers_is_data_or_an_error_that_shows_the_question() {
    let now = SystemTime::now();
    for (body, why) in [
        ("", "EOF"),
        ("no JSON", "expected"),
        ("{}", ""),
        (r#"{"status":"error","error":"parse error: unexpected"}"#, "parse error: unexpected"),
        (r#"{"data":{"result":[{"metric":{},"value":[1]}]}}"#, "invalid length"),
        (r#"{"data":{"result":[{"metric":{"a":7},"value":[1,"2"]}]}}"#, "invalid type"),
        (r#"{"data":{"result":7}}"#, "invalid type"),
        (r#"{"data":{"resultType":"scalar","result":[1,"2"]}}"#, "it gives a scalar, and no series"),
    ] {
        let refused = Api::new(peer(ok(body)).await).instant("up{x}", now).await.unwrap_err();
        let told = refused.to_string();
        assert!(matches!(refused, PrometheusError::Refused { .. }), "{body}: {told}");
        assert!(told.contains("`up{x}`") && told.contains(why), "{body}: {told}");
    }
    // A value that is no number is passed over, and no value is none.
    let odd = r#"{"data":{"result":[{"metric":{},"value":[1,"seven"]}]}}"#;
    assert_eq!(Api::new(peer(ok(odd)).await).value("x", now).await.unwrap(), None);
    let nan = r#"{"data":{"result":[{"metric":{},"value":[1,"NaN"]}]}}"#;
    assert_eq!(Api::new(peer(ok(nan)).await).value("x", now).await.unwrap(), None);
    let seven = r#"{"data":{"result":[{"metric":{},"value":[1,"7"]}]}}"#;
    assert_eq!(Api::new(peer(ok(seven)).await).value("x", now).await.unwrap(), Some(7.0));
    let gone = Api::new(nobody().await).instant("x", now).await.unwrap_err();
    assert!(matches!(gone, PrometheusError::NoAnswer(_)), "{gone}");
    assert!(
        Api::new(peer("HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n").await)
            .ready()
            .await
            .unwrap_err()
            .contains(StatusCode::SERVICE_UNAVAILABLE.as_str())
    );
}
