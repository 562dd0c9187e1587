//! The roles as a terminal or a container runs them: real processes, their flags, their files, their exit codes; and
//! hostile questions to the authorizer over the network.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{HELLO, LIMIT, OFTEN, ask, file, hello, status};
use demo5_authz::client::{Call, Caller, Protocol, Wish};
use demo5_authz::topology::{AUTHZ, Authorizers, Door, FRONT, World, loopback};
use envoy_types::ext_authz::v3::pb::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use futures::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use shared::envoy::Envoy;
use shared::lifecycle::{GRACE, Lifecycle};
use shared::poll::wait_until;
use tempfile::TempDir;
use tonic::Code;

const SERVER: &str = env!("CARGO_BIN_EXE_demo5-authz-server");
const BACKEND: &str = env!("CARGO_BIN_EXE_demo5-backend");
const CLIENT: &str = env!("CARGO_BIN_EXE_demo5-client");
const TOKEN: &str = env!("CARGO_BIN_EXE_demo5-token");

/// The program with none of the variables that it reads.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in [
        "LISTEN",
        "JWKS",
        "POLICIES",
        "ISSUER",
        "AUDIENCE",
        "SKEW",
        "TRUST_DOMAIN",
        "METRICS",
        "DECISIONS",
        "LINGER",
        "TARGET",
        "TOKEN_FILE",
        "SIGNING_KEY",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

fn run(program: &str, args: &[&str]) -> Output {
    command(program).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key pair in a folder, as `demo5-token` makes it.
fn keys() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = run(TOKEN, &["keygen", "--out", folder.path().to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    folder
}

fn make(keys: &Path, args: &[&str]) -> String {
    let key = keys.join("signing-key.pem");
    let made = run(TOKEN, &[&["make", "--key", key.to_str().unwrap()], args].concat());
    assert!(made.status.success(), "{made:?}");
    let token = text(&made.stdout);
    assert_eq!(token.lines().count(), 1);
    token.trim().to_owned()
}

/// A running authorizer of its own.
struct Authz {
    child: Child,
    address: SocketAddr,
    metrics: SocketAddr,
    keys: TempDir,
}

impl Authz {
    fn start(args: &[&str]) -> Self {
        let keys = keys();
        let policies = keys.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        for name in ["greeter.cedar", "clearance.cedar"] {
            std::fs::copy(file("policies").join(name), policies.join(name)).unwrap();
        }
        let decisions = keys.path().join("decisions.jsonl");
        let log = if args.contains(&"--decisions") {
            vec![]
        } else {
            vec!["--decisions".as_ref(), decisions.as_os_str()]
        };
        let mut child = command(SERVER)
            .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
            .arg("--jwks")
            .arg(keys.path().join("public/jwks.json"))
            .arg("--policies")
            .arg(&policies)
            .args(log)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut address = |of: &str| {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "it ended early: {:?}", child.try_wait());
            assert!(line.contains(of), "{line}");
            line.trim().rsplit(' ').next().unwrap().parse().unwrap()
        };
        let (metrics, address) = (address("serves metrics on"), address("listens on"));
        Self { child, address, metrics, keys }
    }

    async fn client(&self) -> AuthorizationClient<tonic::transport::Channel> {
        let client = AuthorizationClient::connect(format!("http://{}", self.address)).await.unwrap();
        client.max_encoding_message_size(64 << 20)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.keys.path().join("decisions.jsonl")).unwrap()
    }

    async fn page(&self) -> String {
        let caller = Caller::plain(self.metrics).unwrap();
        let page =
            caller.http(http::Method::GET, "/metrics", http::HeaderMap::new(), bytes::Bytes::new()).await;
        page.unwrap().said
    }

    async fn ended(&mut self) -> Option<i32> {
        let ended = || {
            std::future::ready(match self.child.try_wait() {
                Ok(Some(status)) => Ok(status.code()),
                other => Err(format!("{other:?}")),
            })
        };
        wait_until("its end", OFTEN, LIMIT, ended).await.unwrap()
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }
}

impl Drop for Authz {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn keys_are_made_once_and_the_private_one_is_for_its_owner() {
    let keys = keys();
    let mode = |name: &str| std::fs::metadata(keys.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("signing-key.pem"), mode("public/jwks.json")), (0o600, 0o644));
    let folder = keys.path().to_str().unwrap();
    let before = std::fs::read(keys.path().join("signing-key.pem")).unwrap();
    let again = run(TOKEN, &["keygen", "--out", folder]);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    assert!(text(&again.stderr).contains("--force"), "{again:?}");
    assert_eq!(std::fs::read(keys.path().join("signing-key.pem")).unwrap(), before);
    // Nor half of it.
    std::fs::remove_file(keys.path().join("signing-key.pem")).unwrap();
    assert_eq!(run(TOKEN, &["keygen", "--out", folder]).status.code(), Some(2));
    assert!(!keys.path().join("signing-key.pem").exists());
    let es256 = run(TOKEN, &["keygen", "--out", folder, "--force", "--kind", "es256"]);
    assert!(es256.status.success(), "{es256:?}");
    assert!(std::fs::read_to_string(keys.path().join("public/jwks.json")).unwrap().contains("ES256"));
    make(keys.path(), &["--sub", "ana", "--role", "reader"]);
}

#[test]
fn wrong_flags_and_missing_files_end_with_exit_code_2_and_the_next_step() {
    for (program, args, expected) in [
        (SERVER, &["--jwks", "/nowhere/jwks.json"][..], "demo5-token keygen"),
        (SERVER, &["--listen", "nowhere"], "--listen"),
        (SERVER, &["--skew", "100000"], "300"),
        (SERVER, &["healthcheck", "--listen", "127.0.0.1:0"], "port 0"),
        (BACKEND, &["--port", "1"], "--help"),
        (CLIENT, &["--token-file", "/nowhere/token"], "/nowhere/token"),
        (CLIENT, &["--token", "eyJ"], "--help"),
        (TOKEN, &["make", "--sub", "ana", "--key", "/nowhere/key"], "demo5-token keygen"),
        (TOKEN, &["make", "--sub", "ana", "--minutes", "0"], "1..=1440"),
        (TOKEN, &[], "Usage"),
    ] {
        let target = if program == CLIENT { &["--target", "127.0.0.1:1"][..] } else { &[] };
        let output = run(program, &[args, target].concat());
        assert_eq!(output.status.code(), Some(2), "{program} {args:?}: {output:?}");
        assert!(text(&output.stderr).contains(expected), "{expected} is not in {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    let keys = keys();
    let jwks = keys.path().join("public/jwks.json");
    let empty = tempfile::tempdir().unwrap();
    let policies = ["--jwks", jwks.to_str().unwrap(), "--policies", empty.path().to_str().unwrap()];
    let output = run(SERVER, &policies);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("*.cedar"), "{output:?}");
    std::fs::write(empty.path().join("x.cedar"), "@id(\"x\")\npermit (principle, action, resource);")
        .unwrap();
    let output = run(SERVER, &policies);
    assert!(text(&output.stderr).contains("x.cedar:2:9"), "{output:?}");
    // A private key where the public ones belong is refused, and not repeated.
    let private = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"AA","d":"c2VjcmV0"}]}"#;
    std::fs::write(&jwks, private).unwrap();
    let output = run(SERVER, &["--jwks", jwks.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        text(&output.stderr).contains("private") && !text(&output.stderr).contains("c2VjcmV0"),
        "{output:?}"
    );
    let key = keys.path().join("signing-key.pem");
    for sub in ["", "a b", "a,b"] {
        let output = run(TOKEN, &["make", "--key", key.to_str().unwrap(), "--sub", sub]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[test]
fn help_shows_examples_and_the_variables() {
    for (program, words) in [
        (SERVER, &["JWKS", "POLICIES", "LISTEN", "DECISIONS", "healthcheck", "Examples:"][..]),
        (BACKEND, &["LISTEN", "healthcheck", "Examples:"]),
        (CLIENT, &["TARGET", "TOKEN_FILE", "Examples:"]),
        (TOKEN, &["keygen", "make", "Examples:"]),
    ] {
        let help = text(&run(program, &["--help"]).stdout);
        for word in words {
            assert!(help.contains(word), "{word} is not in {help}");
        }
    }
}

#[tokio::test]
async fn the_authorizer_decides_logs_counts_and_drains() {
    let mut authz = Authz::start(&["--linger", "1000"]);
    let mut client = authz.client().await;
    let token = make(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
    let allowed = client.check(hello(&token)).await.unwrap().into_inner();
    assert_eq!(status(&allowed), 200);
    let refused = client.check(hello("nonsense")).await.unwrap().into_inner();
    assert_eq!(status(&refused), 401);
    let lines = || {
        let log = authz.log();
        std::future::ready(if log.lines().count() == 2 { Ok(log) } else { Err(log) })
    };
    let log = wait_until("two lines", OFTEN, LIMIT, lines).await.unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |line: usize, name: &str| lines[line][name].clone();
    assert_eq!(
        (of(0, "principal"), of(0, "decision"), of(0, "action")),
        ("ana".into(), "allow".into(), format!("POST {HELLO}").into())
    );
    assert_eq!(of(0, "policies"), serde_json::json!(["readers-say-hello"]));
    assert_eq!(
        (of(1, "decision"), of(1, "reason")),
        ("deny".into(), "it is no token, or not one of our kind".into())
    );
    assert!(of(0, "latency_us").is_u64() && of(0, "time").as_str().unwrap().ends_with('Z'), "{lines:?}");
    assert!(!log.contains(&token) && !log.contains("nonsense"), "{log}");
    let page = authz.page().await;
    for line in [
        "authz_allowed_total 1",
        "authz_denied_total{reason=\"token_malformed\"} 1",
        "authz_check_duration_seconds_count 2",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }

    let address = authz.address.to_string();
    let healthy = || run(SERVER, &["healthcheck", "--listen", &address]).status.success();
    assert!(healthy());
    authz.terminate();
    let look = || std::future::ready(if healthy() { Err("it serves") } else { Ok(()) });
    wait_until("NOT_SERVING", OFTEN, LIMIT, look).await.unwrap();
    // While it lingers it still answers, and what it answered is written when it has ended.
    let last = client.check(hello(&token)).await.unwrap().into_inner();
    assert_eq!(status(&last), 200);
    drop(client);
    assert_eq!(authz.ended().await, Some(0));
    assert_eq!(authz.log().lines().count(), 3);
}

#[tokio::test]
async fn changed_files_are_used_and_broken_ones_are_not() {
    let authz = Authz::start(&[]);
    let mut client = authz.client().await;
    let token = make(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 200);
    let more = authz.keys.path().join("policies/more.cedar");
    let counted = async |what: &str| {
        let look = || async {
            let page = authz.page().await;
            if page.contains(what) { Ok(()) } else { Err(page) }
        };
        wait_until(what, OFTEN, LIMIT, look).await.unwrap();
    };
    std::fs::write(&more, "permit (").unwrap();
    counted("authz_reloads_total{result=\"refused\",what=\"policies\"} 1").await;
    assert_eq!(
        status(&client.check(hello(&token)).await.unwrap().into_inner()),
        200,
        "the last good ones stay"
    );
    std::fs::write(&more, "@id(\"nobody\") forbid (principal, action, resource);").unwrap();
    counted("authz_reloads_total{result=\"used\",what=\"policies\"} 1").await;
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 403);
    std::fs::remove_file(&more).unwrap();
    counted("authz_reloads_total{result=\"used\",what=\"policies\"} 2").await;
    // Keys that cannot be read change nothing; a new pair ends the old tokens.
    let jwks = authz.keys.path().join("public/jwks.json");
    std::fs::write(&jwks, "{").unwrap();
    counted("authz_reloads_total{result=\"refused\",what=\"keys\"} 1").await;
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 200);
    let folder = authz.keys.path().to_str().unwrap();
    assert!(run(TOKEN, &["keygen", "--force", "--out", folder]).status.success());
    counted("authz_reloads_total{result=\"used\",what=\"keys\"} 1").await;
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 401);
    let token = make(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_checks_at_once_are_all_answered_and_answered_right() {
    let authz = Authz::start(&["--decisions", "none"]);
    let client = authz.client().await;
    let good = make(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
    let answers: Vec<(usize, i32)> = futures::stream::iter(0..10_000)
        .map(|number| {
            let (mut client, good) = (client.clone(), good.clone());
            async move {
                let token = if number % 2 == 0 { good } else { format!("{good}{number}") };
                let answer = client.check(hello(&token)).await.unwrap().into_inner();
                (number, status(&answer))
            }
        })
        .buffer_unordered(10_000)
        .collect()
        .await;
    assert_eq!(answers.len(), 10_000);
    for (number, status) in answers {
        assert_eq!(status, if number % 2 == 0 { 200 } else { 401 }, "{number}");
    }
}

#[tokio::test]
async fn hostile_questions_over_the_network_are_refused_and_the_server_lives_on() {
    let mut authz = Authz::start(&[]);
    let mut client = authz.client().await;
    let token = make(authz.keys.path(), &["--sub", "ana", "--role", "admin"]);
    let bearer = format!("Bearer {token}");
    let bearer = ("authorization", bearer.as_bytes());
    let large = vec![b'a'; 1 << 20];
    let answer = client.check(ask("POST", HELLO, &[bearer, ("x", &large)])).await.unwrap().into_inner();
    assert_eq!(status(&answer), 400);
    let many: Vec<(&str, &[u8])> =
        std::iter::once(bearer).chain((0..10_000).map(|_| ("x", &b"1"[..]))).collect();
    let answer = client.check(ask("POST", HELLO, &many)).await.unwrap().into_inner();
    assert_eq!(status(&answer), 400);
    let answer = client.check(CheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(status(&answer), 400);
    // Above what a question may have, it is not read at all: Envoy takes that for no answer, which is a no.
    let huge = vec![b'a'; 8 << 20];
    let refused = client.check(ask("POST", HELLO, &[bearer, ("x", &huge)])).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    // Bytes that are no question, no gRPC and no HTTP.
    for noise in [
        &b"\x00\xff\xfe"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut tcp = std::net::TcpStream::connect(authz.address).unwrap();
        tcp.write_all(noise).unwrap();
        tcp.shutdown(std::net::Shutdown::Write).unwrap();
        tcp.set_read_timeout(Some(LIMIT)).unwrap();
        _ = tcp.read_to_end(&mut Vec::new());
    }
    assert_eq!(status(&client.check(hello(&token)).await.unwrap().into_inner()), 200, "it lives");
    assert!(authz.child.try_wait().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_work_together_through_an_envoy_and_a_killed_authorizer_lets_nobody_through() {
    let mut authz = Authz::start(&[]);
    let mut backend =
        command(BACKEND).args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(backend.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let life = Lifecycle::default();
    let world = World {
        admin: loopback(0),
        doors: vec![Door::new(FRONT, AUTHZ)],
        authorizers: vec![Authorizers {
            cluster: AUTHZ.into(),
            addresses: vec![authz.address],
            health_checks: true,
        }],
        backend: line.trim().rsplit(' ').next().unwrap().parse().unwrap(),
        tls: None,
    };
    let program = shared::tools::envoy(None).await.unwrap();
    let envoy = Envoy::new(&program.path, world.to_yaml().unwrap()).start(&life).await.unwrap();
    let envoy = envoy.ready(LIMIT).await.unwrap();
    let front = envoy.admin().listeners().await.unwrap()[0].address;

    let token = make(authz.keys.path(), &["--sub", "ana", "--role", "reader"]);
    let token_file = authz.keys.path().join("reader.token");
    std::fs::write(&token_file, &token).unwrap();
    let target = front.to_string();
    let seen = run(CLIENT, &["--target", &target, "--token-file", token_file.to_str().unwrap(), "--json"]);
    assert!(seen.status.success(), "{seen:?}");
    let statuses: Vec<String> = text(&seen.stdout)
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["status"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(statuses, ["OK", "200", "OK", "200", "PERMISSION_DENIED", "403"]);
    assert!(!text(&seen.stdout).contains(&token) && !text(&seen.stderr).contains(&token));
    let shown = text(&run(CLIENT, &["--target", &target]).stdout);
    assert!(shown.contains("UNAUTHENTICATED") && shown.contains("401"), "{shown}");

    let caller = Caller::plain(front).unwrap();
    hostile_callers(&caller, &token).await;

    authz.child.kill().unwrap();
    authz.child.wait().unwrap();
    for protocol in Protocol::ALL {
        for _ in 0..10 {
            let seen = caller.call(protocol, &Call::new(Wish::Hello).token(&token)).await.unwrap();
            assert!(!seen.passed() && ["UNAVAILABLE", "503"].contains(&seen.status.as_str()), "{seen}");
        }
        assert!(caller.call(protocol, &Call::new(Wish::Public)).await.unwrap().passed());
    }
    let nobody = run(CLIENT, &["--target", "127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    assert!(text(&nobody.stderr).contains("Is Envoy up?"), "{nobody:?}");
    backend.kill().unwrap();
    backend.wait().unwrap();
    envoy.stop().await;
    life.shut_down(GRACE + Duration::from_secs(1)).await.unwrap();
}

/// What strangers send through an Envoy: refused by one of the two, and never let through.
async fn hostile_callers(caller: &Caller, token: &str) {
    use http::header::AUTHORIZATION;
    use http::{HeaderMap, HeaderValue, Method};
    let get = async |headers: HeaderMap| {
        caller.http(Method::GET, "/hello", headers, bytes::Bytes::new()).await.map(|seen| seen.status)
    };
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap();
    let good = value(format!("Bearer {token}").as_bytes());
    let with = |headers: &[(&'static str, HeaderValue)]| {
        headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.clone())).collect()
    };
    assert_eq!(get(with(&[("authorization", good.clone())])).await.as_deref(), Ok("200"));
    let mut twice: HeaderMap = with(&[("authorization", good.clone())]);
    twice.append(AUTHORIZATION, good.clone());
    assert_eq!(get(twice).await.as_deref(), Ok("401"), "Envoy makes them one, which is no token");
    let no_text = value(b"Bearer \xff\xfe\x80");
    assert_eq!(get(with(&[("authorization", no_text)])).await.as_deref(), Ok("401"));
    let beside = value(b"\xff\xfe\x80");
    assert_eq!(get(with(&[("authorization", good.clone()), ("x-note", beside)])).await.as_deref(), Ok("200"));
    // Underscores in place of dashes, which some backends read as the same.
    let forged = with(&[("authorization", good.clone()), ("x_auth_principal", value(b"adam"))]);
    assert_eq!(get(forged).await.as_deref(), Ok("400"));
    // Envoy reads neither to the end; whether its answer or the end of the connection comes first is chance.
    let large = get(with(&[("authorization", good.clone()), ("x-large", value(&vec![b'a'; 1 << 20]))])).await;
    assert!(large.as_ref().map_or(true, |status| status == "431"), "{large:?}");
    let mut many: HeaderMap = with(&[("authorization", good)]);
    for _ in 0..10_000 {
        many.append("x-many", value(b"1"));
    }
    let many = get(many).await;
    assert!(many.as_ref().map_or(true, |status| status == "431"), "{many:?}");
}
