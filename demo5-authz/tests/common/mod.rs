//! An authorizer with keys and policies, and questions as Envoy asks them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use demo5_authz::authorizer::{Authorizer, TRUST_DOMAIN};
use demo5_authz::claims::Claims;
use demo5_authz::decision_log::DecisionLog;
use demo5_authz::issuer::{Issuer, KeyType};
use demo5_authz::jwks::Jwks;
use demo5_authz::metrics::Metrics;
use demo5_authz::policy::Policies;
use demo5_authz::token::{ValidationParams, Verifier};
use envoy_types::ext_authz::v3::pb::{CheckRequest, CheckResponse, HttpResponse};
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use tokio::sync::watch;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// How often a test looks.
pub(crate) const OFTEN: Duration = Duration::from_millis(5);

/// How long a test waits for what should take milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The route of gRPC's Hello.
pub(crate) const HELLO: &str = "/mesh.hello.v1.Greeter/Hello";

pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The policies of the demo.
pub(crate) fn policies() -> Policies {
    let texts = std::fs::read_dir(file("policies")).unwrap().map(|entry| entry.unwrap().path());
    let texts = texts.filter(|path| path.extension().is_some_and(|extension| extension == "cedar"));
    let read = |path: PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
    };
    Policies::parse(&texts.map(read).collect()).unwrap()
}

pub(crate) fn issuer() -> Issuer {
    Issuer::generate(KeyType::Eddsa).unwrap()
}

pub(crate) fn verifier(issuer: &Issuer) -> Verifier {
    Verifier::new(Jwks::parse(&issuer.jwks()).unwrap(), ValidationParams::default())
}

/// An authorizer that believes this issuer, and has the demo's policies.
pub(crate) fn authorizer(issuer: &Issuer) -> Authorizer {
    let verifier = watch::channel(Arc::new(verifier(issuer))).1;
    let policies = watch::channel(Arc::new(policies())).1;
    Authorizer::new(verifier, policies, TRUST_DOMAIN, Metrics::new().unwrap(), DecisionLog::disabled())
}

pub(crate) fn claims(roles: &[&str]) -> Claims {
    Claims::new(&ValidationParams::default(), "ana", roles, HOUR)
}

/// A good token.
pub(crate) fn token(issuer: &Issuer, roles: &[&str]) -> String {
    issuer.sign(&claims(roles)).unwrap()
}

/// A call with these headers, as Envoy describes it with `encode_raw_headers`.
pub(crate) fn check_request(method: &str, path: &str, headers: &[(&str, &[u8])]) -> CheckRequest {
    let header = |&(key, value): &(&str, &[u8])| HeaderValue {
        key: key.to_owned(),
        raw_value: value.to_vec(),
        ..HeaderValue::default()
    };
    let http = HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        header_map: Some(HeaderMap { headers: headers.iter().map(header).collect() }),
        ..HttpRequest::default()
    };
    with_http(http)
}

pub(crate) fn with_http(http: HttpRequest) -> CheckRequest {
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer::default()),
            request: Some(Request { http: Some(http), ..Request::default() }),
            ..AttributeContext::default()
        }),
    }
}

/// gRPC's Hello with this token.
pub(crate) fn hello(token: &str) -> CheckRequest {
    let bearer = format!("Bearer {token}");
    check_request(
        "POST",
        HELLO,
        &[("content-type", b"application/grpc"), ("authorization", bearer.as_bytes())],
    )
}

/// The HTTP status of a refusal, or 200.
pub(crate) fn status(response: &CheckResponse) -> i32 {
    let code = response.status.as_ref().unwrap().code;
    match response.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(_) => {
            assert_eq!(code, 0);
            200
        }
        HttpResponse::DeniedResponse(denied) => {
            assert_ne!(code, 0, "a refusal says so twice");
            denied.status.as_ref().unwrap().code
        }
        HttpResponse::ErrorResponse(error) => panic!("{error:?}"),
    }
}

pub(crate) fn http_status(authorizer: &Authorizer, request: &CheckRequest) -> i32 {
    status(&authorizer.check_at(request, SystemTime::now()))
}
