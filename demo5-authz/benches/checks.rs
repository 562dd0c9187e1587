//! What a check costs: the authorizer in a process of its own, asked by one client over one connection.
//!
//! ```text
//! cargo bench -p demo5-authz --bench checks [-- CHECKS]
//! ```
//!
//! CPU is the server's alone, from the kernel's books (proc(5), schedstat); that holds on a busy machine too. Checks a second
//! a core is its inverse: what one core could do that had nothing else to do.

#![allow(clippy::print_stdout, reason = "its output is the point of running it")]

mod server;

use std::time::{Duration, Instant};

use anyhow::Context;
use demo5_authz::cache;
use demo5_authz::claims::Claims;
use demo5_authz::issuer::{Issuer, KeyType};
use demo5_authz::token::ValidationParams;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use futures::{StreamExt, stream};
use tonic::transport::Channel;

use server::Server;

/// Checks at once.
const CONCURRENCY: usize = 64;

/// Checks of a measurement, unless another number is given.
const CHECKS: usize = 50_000;

/// Tokens that are new to the server, at most: so many that in the end it remembers as many as ever.
const NEW_TOKENS: usize = cache::CAPACITY as usize;

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
    for (kind, name) in [(KeyType::Eddsa, "EdDSA"), (KeyType::Es256, "ES256")] {
        let issuer = Issuer::generate(kind)?;
        for log in [false, true] {
            let server = Server::authorizer(&issuer, log)?;
            let client = client(&server).await?;
            let cached = check_request(&token(&issuer, 0)?);
            run(&client, std::slice::from_ref(&cached), 2_000).await?;
            let what = format!("{name}, token known{}", if log { ", logged" } else { "" });
            report(
                &what,
                checks,
                cpu_of(&server, run(&client, std::slice::from_ref(&cached), checks)).await?,
                server.rss()?,
            );
        }
        let new = NEW_TOKENS.min(checks);
        let server = Server::authorizer(&issuer, false)?;
        let client = client(&server).await?;
        let requests: Vec<_> = (1..=new)
            .map(|number| Ok(check_request(&token(&issuer, number)?)))
            .collect::<anyhow::Result<_>>()?;
        report(
            &format!("{name}, every token new"),
            new,
            cpu_of(&server, run(&client, &requests, new)).await?,
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

async fn client(server: &Server) -> anyhow::Result<AuthorizationClient<Channel>> {
    Ok(AuthorizationClient::connect(format!("http://{}", server.address())).await?)
}

/// The CPU time that the server used while this went on.
async fn cpu_of(server: &Server, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Duration> {
    let before = server.cpu()?;
    work.await?;
    Ok(server.cpu()?.saturating_sub(before))
}

fn token(issuer: &Issuer, number: usize) -> anyhow::Result<String> {
    let claims = Claims::new(
        &ValidationParams::default(),
        &format!("ana-{number}"),
        &["reader"],
        Duration::from_secs(3600),
    );
    Ok(issuer.sign(&claims)?)
}

/// gRPC's Hello as Envoy describes it, with the headers that a gRPC client sends.
fn check_request(token: &str) -> CheckRequest {
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
    requests: &[CheckRequest],
    checks: usize,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let responses = stream::iter(0..checks).map(|number| {
        let (mut client, check_request) = (client.clone(), requests[number % requests.len()].clone());
        async move { client.check(check_request).await }
    });
    let mut responses = responses.buffer_unordered(CONCURRENCY);
    while let Some(answer) = responses.next().await {
        let code = answer?.into_inner().status.context("no status")?.code;
        anyhow::ensure!(code == 0, "refused with {code} after {:?}", started.elapsed());
    }
    Ok(())
}
