//! Questions that nobody asks in good faith: too large, out of form, or of any bytes. None is a panic, none an allow.
//!
//! Does not know why each is refused; that it is, is enough.

use std::sync::LazyLock;

use demo5_authz::authorizer::Authorizer;
use demo5_authz::check_input::{MAX_HEADER_BYTES, MAX_HEADERS};
use demo5_authz::claims::Claims;
use demo5_authz::issuer::Issuer;
use envoy_types::ext_authz::v3::pb::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};
use proptest::prelude::*;

use super::common::{
    HELLO, authorizer, check_request, claims, http_status, issuer, token, verifier, with_http,
};
use super::{base64url, now};

#[test]
fn hostile_requests_are_denied_without_a_panic() {
    let issuer = issuer();
    let authorizer = authorizer(&issuer);
    let bearer = format!("Bearer {}", token(&issuer, &["admin"]));
    let bearer = ("authorization", bearer.as_bytes());
    let assert_bad_request = |request: &CheckRequest| {
        let status = http_status(&authorizer, request);
        assert_eq!(status, 400);
    };
    assert_bad_request(&CheckRequest::default());
    assert_bad_request(&CheckRequest { attributes: Some(Default::default()) });
    assert_bad_request(&with_http(HttpRequest::default()));
    let large = vec![b'a'; 1 << 20];
    assert_bad_request(&check_request("POST", HELLO, &[bearer, ("x", &large)]));
    let name = "x".repeat(1 << 20);
    assert_bad_request(&check_request("POST", HELLO, &[bearer, (&name, b"")]));
    let many: Vec<(&str, &[u8])> =
        std::iter::once(bearer).chain((0..10_000).map(|_| ("x", &b"1"[..]))).collect();
    assert_bad_request(&check_request("POST", HELLO, &many));
    let at_limit: Vec<(&str, &[u8])> =
        std::iter::once(bearer).chain((1..MAX_HEADERS).map(|_| ("x", &b"1"[..]))).collect();
    assert_eq!(
        http_status(&authorizer, &check_request("POST", HELLO, &at_limit)),
        200,
        "as many as there may be"
    );
    let long = vec![b'a'; MAX_HEADER_BYTES];
    assert_bad_request(&check_request("POST", HELLO, &[bearer, ("x", &long)]));
    for path in [
        "",
        "hello",
        "*",
        "http://x/hello",
        "/hello/../vault",
        "/./hello",
        "//hello",
        "/hello%2f..%2fvault",
        "/%2E%2e/hello",
        "/hello\\vault",
        "/hello\0",
        "/hello\r\nx: y",
    ] {
        assert_bad_request(&check_request("GET", path, &[bearer]));
    }
    assert_bad_request(&check_request("GET", &format!("/{}", "a".repeat(9000)), &[bearer]));
    for method in ["", "get", "GET\r\n", "G E T"] {
        assert_bad_request(&check_request(method, "/hello", &[bearer]));
    }
    // The query is no part of what policies see.
    assert_eq!(http_status(&authorizer, &check_request("GET", "/hello?x=/../vault", &[bearer])), 200);
    assert_eq!(http_status(&authorizer, &check_request("GET", "/hello?../..", &[bearer])), 200);
    assert_eq!(http_status(&authorizer, &check_request("BREW", "/hello", &[bearer])), 200, "an admin may");
    assert_eq!(
        http_status(&authorizer, &check_request("GET", "/\u{202e}olleh", &[bearer])),
        200,
        "text is text"
    );
}

static SHARED: LazyLock<(Issuer, Authorizer, String)> = LazyLock::new(|| {
    let issuer = issuer();
    let (authorizer, good) = (authorizer(&issuer), token(&issuer, &["admin"]));
    (issuer, authorizer, good)
});

/// Sequences of bytes that are near to a good token, and others.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let good = || SHARED.2.clone().into_bytes();
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,200}\\.[A-Za-z0-9_-]{0,100}".prop_map(String::into_bytes),
        // One byte changed.
        (any::<proptest::sample::Index>(), any::<u8>()).prop_map(move |(at, byte)| {
            let mut bytes = good();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        // A piece taken out, or put in twice.
        (any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), any::<bool>()).prop_map(
            move |(a, b, out)| {
                let bytes = good();
                let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
                let (a, b) = (a.min(b), a.max(b));
                if out { [&bytes[..a], &bytes[b..]].concat() } else { [&bytes[..b], &bytes[a..]].concat() }
            }
        ),
        // Our header and signature around other claims.
        "[a-z]{1,10}".prop_map(move |subject| {
            let parts: Vec<String> = SHARED.2.split('.').map(ToOwned::to_owned).collect();
            let claims = serde_json::to_vec(&Claims { sub: subject, ..claims(&["admin"]) }).unwrap();
            format!("{}.{}.{}", parts[0], base64url(&claims), parts[2]).into_bytes()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn bytes_without_our_signature_are_never_accepted_as_a_token(bytes in bytes()) {
        let (issuer, authorizer, good) = &*SHARED;
        // What a signature is over: all before the last dot, and the signature itself.
        prop_assume!(bytes != good.as_bytes());
        let value = [b"Bearer ", &bytes[..]].concat();
        // A header's value is trimmed, so the good token with a blank around it is the good token.
        prop_assume!(bytes.trim_ascii() != good.as_bytes());
        prop_assert_eq!(http_status(authorizer, &check_request("POST", HELLO, &[("authorization", &value)])), 401);
        prop_assert!(verifier(issuer).verify(&bytes, now()).is_err());
    }

    #[test]
    fn no_request_without_credentials_panics_or_is_allowed(
        method in ".{0,10}",
        path in ".{0,60}",
        names in proptest::collection::vec("[a-z-]{1,20}", 0..20),
        value in proptest::collection::vec(any::<u8>(), 0..60),
        principal in ".{0,40}",
    ) {
        let headers: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &value[..])).collect();
        let mut request = check_request(&method, &path, &headers);
        request.attributes.as_mut().unwrap().source = Some(Peer { principal, ..Peer::default() });
        prop_assert_ne!(http_status(&SHARED.1, &request), 200);
    }
}
