//! What strangers send: straight to the authorizer, and through an Envoy. Refused, never let through, and all live on.
//!
//! Does not know how an Envoy is started: `end_to_end.rs` brings one.

use std::io::{Read, Write};

use demo5_authz::client::Caller;
use envoy_types::ext_authz::v3::pb::CheckRequest;
use tonic::Code;

use super::authz::Authz;
use super::common::{HELLO, LIMIT, check_request, hello, status};
use super::issue_token;

#[tokio::test]
async fn hostile_requests_are_denied_and_the_server_keeps_serving() {
    let mut authz = Authz::start(&[]);
    let mut client = authz.client().await;
    let token = issue_token(authz.keys.path(), &["--sub", "ana", "--role", "admin"]);
    let bearer = format!("Bearer {token}");
    let bearer = ("authorization", bearer.as_bytes());
    let large = vec![b'a'; 1 << 20];
    let answer =
        client.check(check_request("POST", HELLO, &[bearer, ("x", &large)])).await.unwrap().into_inner();
    assert_eq!(status(&answer), 400);
    let many: Vec<(&str, &[u8])> =
        std::iter::once(bearer).chain((0..10_000).map(|_| ("x", &b"1"[..]))).collect();
    let answer = client.check(check_request("POST", HELLO, &many)).await.unwrap().into_inner();
    assert_eq!(status(&answer), 400);
    let answer = client.check(CheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(status(&answer), 400);
    // Above what a question may have, it is not read at all: Envoy takes that for no answer, which is a no.
    let huge = vec![b'a'; 8 << 20];
    let denied = client.check(check_request("POST", HELLO, &[bearer, ("x", &huge)])).await.unwrap_err();
    assert_eq!(denied.code(), Code::OutOfRange);
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

/// What strangers send through an Envoy: refused by one of the two, and never let through.
pub(crate) async fn hostile_callers(caller: &Caller, token: &str) {
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
