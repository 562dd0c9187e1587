//! What a check costs: the authorizer in a process of its own, asked by one client over one connection.
//!
//! ```text
//! cargo bench -p demo5-authz --bench checks [-- CHECKS]
//! ```
//!
//! CPU is the server's alone, from the kernel's books (proc(5), schedstat); that holds on a busy machine too. Checks a second
//! a core is its inverse: what one core could do that had nothing else to do.

#![allow(clippy::print_stdout, reason = "its output is the point of running it")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use demo5_authz::issuer::{Issuer, Kind};
use demo5_authz::token::{Claims, Expected};
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use futures::{StreamExt, stream};
use tonic::transport::Channel;

/// Checks at once.
const AT_ONCE: usize = 64;

/// Checks of a measurement, unless another number is given.
const CHECKS: usize = 50_000;

/// Tokens that are new to the server, at most: making one costs the client as much as verifying costs the server.
const NEW: usize = 5_000;

fn main() -> anyhow::Result<()> {
    // cargo passes --bench.
    let checks = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(CHECKS);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(checks))
}

async fn measure(checks: usize) -> anyhow::Result<()> {
    println!(
        "{:<38} {:>9} {:>16} {:>16} {:>9}",
        "server alone", "checks", "CPU a check", "checks/s a core", "RSS"
    );
    for (kind, name) in [(Kind::Eddsa, "EdDSA"), (Kind::Es256, "ES256")] {
        let issuer = Issuer::generate(kind)?;
        for log in [false, true] {
            let server = Server::start(&issuer, log)?;
            let client = AuthorizationClient::connect(server.url.clone()).await?;
            let known = question(&token(&issuer, 0)?);
            run(&client, std::slice::from_ref(&known), 2_000).await?;
            let what = format!("{name}, token known{}", if log { ", logged" } else { "" });
            report(
                &what,
                checks,
                server.cpu_of(run(&client, std::slice::from_ref(&known), checks)).await?,
                server.rss()?,
            );
        }
        let new = NEW.min(checks);
        let server = Server::start(&issuer, false)?;
        let client = AuthorizationClient::connect(server.url.clone()).await?;
        let questions: Vec<_> =
            (1..=new).map(|number| Ok(question(&token(&issuer, number)?))).collect::<anyhow::Result<_>>()?;
        report(
            &format!("{name}, every token new"),
            new,
            server.cpu_of(run(&client, &questions, new)).await?,
            server.rss()?,
        );
    }
    Ok(())
}

fn report(what: &str, checks: usize, cpu: Duration, rss: u64) {
    let each = cpu.as_secs_f64() / checks as f64;
    let mib = rss as f64 / f64::from(1 << 20);
    println!("{what:<38} {checks:>9} {:>13.1} us {:>16.0} {mib:>5.1} MiB", each * 1e6, 1.0 / each);
}

fn token(issuer: &Issuer, number: usize) -> anyhow::Result<String> {
    let claims =
        Claims::new(&Expected::default(), &format!("ana-{number}"), &["reader"], Duration::from_secs(3600));
    Ok(issuer.sign(&claims)?)
}

/// gRPC's Hello as Envoy describes it, with the headers that a gRPC client sends.
fn question(token: &str) -> CheckRequest {
    let bearer = format!("Bearer {token}");
    let headers = [
        (":authority", "127.0.0.1:15000"),
        (":path", "/mesh.hello.v1.Greeter/Hello"),
        (":method", "POST"),
        (":scheme", "http"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("authorization", &bearer),
        ("user-agent", "tonic/0.14.9"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-envoy-internal", "true"),
        ("x-request-id", "7d1c2f3e-9b5a-4c1d-8e2f-1a2b3c4d5e6f"),
    ];
    let header = |(key, value): (&str, &str)| HeaderValue {
        key: key.to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let http = HttpRequest {
        method: "POST".to_owned(),
        path: "/mesh.hello.v1.Greeter/Hello".to_owned(),
        host: "127.0.0.1:15000".to_owned(),
        scheme: "http".to_owned(),
        protocol: "HTTP/2".to_owned(),
        header_map: Some(HeaderMap { headers: headers.map(header).to_vec() }),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer::default()),
            request: Some(Request { http: Some(http), ..Request::default() }),
            ..AttributeContext::default()
        }),
    }
}

/// Asks these questions in turn, so often in all; each has to be answered with yes.
async fn run(
    client: &AuthorizationClient<Channel>,
    questions: &[CheckRequest],
    checks: usize,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let answers = stream::iter(0..checks).map(|number| {
        let (mut client, question) = (client.clone(), questions[number % questions.len()].clone());
        async move { client.check(question).await }
    });
    let mut answers = answers.buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        let code = answer?.into_inner().status.context("no status")?.code;
        anyhow::ensure!(code == 0, "refused with {code} after {:?}", begun.elapsed());
    }
    Ok(())
}

/// The authorizer as a process, which ends with this value.
struct Server {
    child: Child,
    url: String,
    _keys: tempfile::TempDir,
}

impl Server {
    fn start(issuer: &Issuer, log: bool) -> anyhow::Result<Self> {
        let keys = tempfile::tempdir()?;
        let jwks = keys.path().join("jwks.json");
        std::fs::write(&jwks, issuer.jwks())?;
        let decisions = if log { keys.path().join("decisions.jsonl") } else { "none".into() };
        let mut child = Command::new(env!("CARGO_BIN_EXE_demo5-authz-server"))
            .args(["--listen", "127.0.0.1:0", "--jwks"])
            .arg(jwks)
            .arg("--policies")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"))
            .arg("--decisions")
            .arg(decisions)
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default();
        Ok(Self { url: format!("http://{address}"), child, _keys: keys })
    }

    /// The CPU time that the server used while this went on.
    async fn cpu_of(&self, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Duration> {
        let before = self.cpu()?;
        work.await?;
        Ok(self.cpu()?.saturating_sub(before))
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id()))?.flatten();
        let used = threads.filter_map(|thread| {
            let line = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            line.split(' ').next()?.parse::<u64>().ok()
        });
        Ok(Duration::from_nanos(used.sum()))
    }

    /// The most memory that it ever had, in bytes.
    fn rss(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib << 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
