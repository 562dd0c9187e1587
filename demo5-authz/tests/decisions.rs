//! The authorizer without a network: which tokens are believed, what the policies say, and what hostile input gets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use common::{HELLO, answer, ask, authorizer, claims, hello, issuer, policies, token, verifier, with_http};
use demo5_authz::authorizer::Authorizer;
use demo5_authz::decision::{PRINCIPAL, ROLES};
use demo5_authz::inquiry::{HEADER_BYTES, HEADERS};
use demo5_authz::issuer::{Issuer, Kind, jwks};
use demo5_authz::jwks::{Jwks, JwksError};
use demo5_authz::policy::{Action, Policies, Principal};
use demo5_authz::token::{Audience, Claims, Expected, LONGEST, TokenError, Verifier};
use envoy_types::ext_authz::v3::pb::{CheckRequest, HttpResponse};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::json;

fn now() -> SystemTime {
    SystemTime::now()
}

/// What the verifier says to a token with these claims.
fn of_claims(issuer: &Issuer, claims: &impl serde::Serialize) -> Result<(), TokenError> {
    verifier(issuer).verify(issuer.sign(claims).unwrap().as_bytes(), now()).map(drop)
}

fn of_header(issuer: &Issuer, change: impl FnOnce(&mut Header)) -> Result<(), TokenError> {
    let mut header = issuer.header();
    change(&mut header);
    let token = issuer.sign_as(&header, &claims(&["reader"])).unwrap();
    verifier(issuer).verify(token.as_bytes(), now()).map(drop)
}

/// A token of hand-made parts, without a signature.
fn unsigned(header: &serde_json::Value, claims: &serde_json::Value) -> String {
    format!("{}.{}.", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

#[test]
fn a_token_of_either_kind_says_who_and_which_roles() {
    for kind in [Kind::Eddsa, Kind::Es256] {
        let issuer = Issuer::generate(kind).unwrap();
        let verified = verifier(&issuer).verify(token(&issuer, &["reader"]).as_bytes(), now()).unwrap();
        assert_eq!((verified.subject.as_str(), &verified.roles[..]), ("ana", &["reader".to_owned()][..]));
    }
}

#[test]
fn each_part_of_a_token_that_is_wrong_has_its_reason() {
    let issuer = issuer();
    let base = claims(&["reader"]);
    let with = |change: fn(&mut Claims)| {
        let mut claims = base.clone();
        change(&mut claims);
        of_claims(&issuer, &claims)
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|claims| claims.iss = "https://elsewhere.example".into()), Err(TokenError::Issuer));
    assert_eq!(with(|claims| claims.aud = Audience::One("another".into())), Err(TokenError::Audience));
    let several = Audience::Several(vec!["another".into(), "greeter".into()]);
    assert_eq!(of_claims(&issuer, &Claims { aud: several, ..base.clone() }), Ok(()));
    assert_eq!(with(|claims| claims.exp = claims.nbf - 3600), Err(TokenError::Expired));
    assert_eq!(with(|claims| claims.nbf += 3600), Err(TokenError::NotYet));
    assert_eq!(with(|claims| claims.sub = String::new()), Err(TokenError::Malformed));
    // What would become a second header, or a second role.
    assert_eq!(with(|claims| claims.sub = "ana\r\nx-auth-roles: admin".into()), Err(TokenError::Malformed));
    assert_eq!(with(|claims| claims.roles = vec!["reader,admin".into()]), Err(TokenError::Malformed));
    assert_eq!(with(|claims| claims.roles = vec!["reader".into(); 17]), Err(TokenError::Malformed));
    for missing in ["iss", "aud", "sub", "nbf", "exp"] {
        let mut value = serde_json::to_value(&base).unwrap();
        value.as_object_mut().unwrap().remove(missing);
        assert_eq!(of_claims(&issuer, &value), Err(TokenError::Malformed), "{missing}");
    }
    for (claim, value) in
        [("exp", json!("tomorrow")), ("exp", json!(-1)), ("nbf", json!(1e300)), ("aud", json!(7))]
    {
        let mut changed = serde_json::to_value(&base).unwrap();
        changed[claim] = value;
        assert!(of_claims(&issuer, &changed).is_err(), "{claim}");
    }
}

#[test]
fn the_clock_may_differ_by_the_skew_and_no_more() {
    let issuer = issuer();
    let skew = Expected::default().skew;
    let claims = claims(&[]);
    let token = issuer.sign(&claims).unwrap();
    let from = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.nbf);
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.exp);
    let second = Duration::from_secs(1);
    for (time, expected) in [
        (from - skew - second, Some(TokenError::NotYet)),
        (from - skew, None),
        (until + skew - second, None),
        (until + skew, Some(TokenError::Expired)),
    ] {
        // Anew each time, and from memory.
        let verifier = verifier(&issuer);
        assert_eq!(verifier.verify(token.as_bytes(), time).err(), expected);
        verifier.verify(token.as_bytes(), from).unwrap();
        assert_eq!(verifier.verify(token.as_bytes(), time).err(), expected, "from memory");
    }
}

#[test]
fn the_algorithm_is_that_of_our_key_whatever_the_token_says() {
    let issuer = issuer();
    let claims = serde_json::to_value(claims(&["admin"])).unwrap();
    let verifier = verifier(&issuer);
    for algorithm in ["none", "None", "NONE", "nOnE", "HS256", "ES256", "RS256", ""] {
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": issuer.key_id() });
        let token = unsigned(&header, &claims);
        assert_eq!(verifier.verify(token.as_bytes(), now()), Err(TokenError::Algorithm), "{algorithm}");
    }
    // The public key, which everybody knows, as the secret of an HMAC.
    for secret in [issuer.public_bytes(), issuer.jwks().as_bytes()] {
        let header = Header { kid: Some(issuer.key_id().to_owned()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap();
        assert_eq!(verifier.verify(token.as_bytes(), now()), Err(TokenError::Algorithm));
    }
}

#[test]
fn a_key_is_ours_by_its_id_and_by_its_signature() {
    let (issuer, stranger) = (issuer(), issuer_named_like_ours());
    assert_eq!(of_header(&issuer, |header| header.kid = None), Err(TokenError::NoKey));
    assert_eq!(of_header(&issuer, |header| header.kid = Some("another".into())), Err(TokenError::UnknownKey));
    let huge = "k".repeat(4000);
    assert_eq!(of_header(&issuer, |header| header.kid = Some(huge)), Err(TokenError::UnknownKey));
    for path in ["../../../dev/null", "' OR 1=1 --", "\0"] {
        assert_eq!(of_header(&issuer, |header| header.kid = Some(path.into())), Err(TokenError::UnknownKey));
    }
    // Signed by somebody else, who says it was our key; also with that key in the header.
    let header = Header { kid: issuer.header().kid, ..stranger.header() };
    let forged = stranger.sign_as(&header, &claims(&["admin"])).unwrap();
    assert_eq!(verifier(&issuer).verify(forged.as_bytes(), now()), Err(TokenError::Signature));
    let own: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&stranger.jwks()).unwrap();
    let header = Header { jwk: own.keys.first().cloned(), ..header };
    let forged = stranger.sign_as(&header, &claims(&["admin"])).unwrap();
    assert_eq!(verifier(&issuer).verify(forged.as_bytes(), now()), Err(TokenError::Signature));
}

fn issuer_named_like_ours() -> Issuer {
    issuer()
}

#[test]
fn an_extension_that_must_be_understood_is_not() {
    let issuer = issuer();
    assert_eq!(
        of_header(&issuer, |header| header.crit = Some(vec!["exp".into()])),
        Err(TokenError::Critical)
    );
    assert_eq!(of_header(&issuer, |header| header.extras.insert("b64", false)), Err(TokenError::Critical));
}

#[test]
fn what_is_no_token_is_malformed_or_too_long() {
    let issuer = issuer();
    let verifier = verifier(&issuer);
    let good = token(&issuer, &["reader"]);
    let parts: Vec<&str> = good.split('.').collect();
    for text in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "a.b.c".into(),
        format!("{good}."),
        format!(".{good}"),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}={}", &good[..good.len() - 1], ""),
        good.replace('.', ","),
        // A token in a token: the outer one is signed, and holds no claims.
        issuer.sign(&json!(good)).unwrap(),
        issuer.sign(&json!([good])).unwrap(),
        issuer.sign(&json!({ "jwt": good })).unwrap(),
        format!("{}.{}.{}", base64url(&[b'['; 3000]), parts[1], parts[2]),
    ] {
        assert_eq!(verifier.verify(text.as_bytes(), now()), Err(TokenError::Malformed), "{text}");
    }
    let hollow = format!("{}..{}", parts[0], parts[2]);
    assert_eq!(verifier.verify(hollow.as_bytes(), now()), Err(TokenError::Signature));
    assert_eq!(verifier.verify(&vec![b'a'; LONGEST + 1], now()), Err(TokenError::TooLong));
    assert_eq!(verifier.verify(&vec![0xff; 1 << 20], now()), Err(TokenError::TooLong));
    assert_eq!(verifier.verify(b"\xff\xfe.\x00.\x80", now()), Err(TokenError::Malformed));
}

#[test]
fn a_token_is_verified_once_and_only_good_ones_are_remembered() {
    let issuer = issuer();
    let verifier = verifier(&issuer);
    let good = token(&issuer, &["reader"]);
    for _ in 0..3 {
        verifier.verify(good.as_bytes(), now()).unwrap();
    }
    assert_eq!((verifier.cache().len(), verifier.cache().looked_up()), (1, (2, 1)));
    let bad = format!("{}A", &good[..good.len() - 1]);
    verifier.verify(bad.as_bytes(), now()).unwrap_err();
    assert_eq!(verifier.cache().len(), 1);
}

#[test]
fn the_memory_of_tokens_is_bounded() {
    let issuer = issuer();
    let cache = demo5_authz::cache::Cache::default();
    let verified = verifier(&issuer).verify(token(&issuer, &[]).as_bytes(), now()).unwrap();
    for number in 0..demo5_authz::cache::MOST + 10 {
        cache.put(&number.to_be_bytes(), verified.clone());
    }
    assert_eq!(cache.len(), demo5_authz::cache::MOST);
    assert!(cache.get(&0_usize.to_be_bytes()).is_none(), "the oldest went");
}

#[test]
fn a_set_of_keys_is_usable_or_says_where_it_is_not() {
    let issuer = issuer();
    let good = Jwks::parse(&jwks([&issuer, &Issuer::generate(Kind::Es256).unwrap()])).unwrap();
    assert_eq!(good.len(), 2);
    let set = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut set: serde_json::Value = serde_json::from_str(&issuer.jwks()).unwrap();
        change(&mut set["keys"][0]);
        Jwks::parse(&set.to_string()).unwrap_err().to_string()
    };
    // Too short a key makes the library panic when it is used; it must not get that far.
    for x in ["", "AA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "not base64!"] {
        assert_eq!(set(&|key| key["x"] = json!(x)), "keys[0] is no public key of its kind", "{x}");
    }
    let private = set(&|key| key["d"] = json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"));
    assert!(private.starts_with("keys[0] is a private") && !private.contains("nWGx"), "{private}");
    assert_eq!(set(&|key| drop(key.as_object_mut().unwrap().remove("kid"))), "keys[0] has no \"kid\"");
    assert!(set(&|key| key["alg"] = json!("ES256")).starts_with("no key for"));
    assert!(set(&|key| key["use"] = json!("enc")).starts_with("no key for"));
    assert!(matches!(Jwks::parse(&jwks([&issuer, &issuer])), Err(JwksError::Twice { number: 1 })));
    assert_eq!(
        Jwks::parse("{\n \"keys\": [").unwrap_err().to_string(),
        "line 2, column 10: not a JSON object with a list of \"keys\""
    );
    let secret = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"1"}]}"#;
    assert!(matches!(Jwks::parse(secret), Err(JwksError::Private { number: 0 })));
}

fn judge(role: &str, method: &str, path: &str, extensions: &[(&str, &str)]) -> (bool, Vec<String>) {
    let principal = Principal::User { name: "ana".into(), roles: vec![role.into()] };
    let verdict = policies().judge(&principal, &Action { method, path, grpc: false, extensions });
    assert_eq!(verdict.failed, None);
    (verdict.permitted, verdict.policies)
}

#[test]
fn policies_decide_by_role_method_path_and_what_the_route_adds() {
    let by = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
    assert_eq!(judge("reader", "POST", HELLO, &[]), (true, by(&["readers-say-hello"])));
    assert_eq!(judge("reader", "POST", "/mesh.hello.v1.Greeter/DeleteGreeting", &[]), (false, by(&[])));
    assert_eq!(
        judge("admin", "POST", "/mesh.hello.v1.Greeter/DeleteGreeting", &[]),
        (true, by(&["admins-do-all"]))
    );
    assert_eq!(judge("reader", "GET", "/hello", &[]), (true, by(&["readers-say-hello"])));
    assert_eq!(judge("reader", "DELETE", "/hello", &[]), (false, by(&[])));
    assert_eq!(judge("nobody", "GET", "/hello", &[]), (false, by(&[])));
    assert_eq!(judge("reader", "GET", "/vault", &[]), (true, by(&["readers-say-hello"])));
    let clearance = [("clearance", "admin")];
    assert_eq!(judge("reader", "GET", "/vault", &clearance), (false, by(&["clearance-is-for-admins"])));
    assert_eq!(judge("admin", "GET", "/vault", &clearance), (true, by(&["admins-do-all"])));
    let printer = Principal::Workload { id: "spiffe://demo5.example/ns/cards/sa/printer".into() };
    let action = Action { method: "POST", path: HELLO, grpc: true, extensions: &[] };
    assert_eq!(policies().judge(&printer, &action).policies, by(&["the-greeting-card-printer"]));
    let other = Principal::Workload { id: "spiffe://demo5.example/ns/cards/sa/other".into() };
    assert!(!policies().judge(&other, &action).permitted);
}

#[test]
fn a_wrong_policy_is_told_with_its_place() {
    let read = |text: &str| Policies::parse(&BTreeMap::from([("x.cedar".to_owned(), text.to_owned())]));
    let told = |text: &str| read(text).unwrap_err().to_string();
    assert!(told("@id(\"a\")\npermit (principal,\n  action resource);").starts_with("x.cedar:3:10: "));
    // A misspelt attribute would be a rule that never applies.
    let misspelt = "@id(\"a\")\npermit (principal, action, resource)\nwhen { context.metod == \"GET\" };";
    let misspelt = told(misspelt);
    assert!(misspelt.starts_with("x.cedar:3:") && misspelt.contains("metod"), "{misspelt}");
    let unknown = told("@id(\"a\") permit (principal in Rolle::\"x\", action, resource);");
    assert!(unknown.starts_with("x.cedar:1:") && unknown.contains("Rolle"), "{unknown}");
    assert!(told("permit (principal, action, resource);").contains("@id"));
    let twice = "@id(\"a\") permit (principal, action, resource);\n".repeat(2);
    assert!(told(&twice).contains("stands twice"));
    // A tag that may be missing has to be asked for first.
    assert!(
        told("@id(\"a\") permit (principal, action, resource) when { resource.getTag(\"x\") == \"1\" };")
            .starts_with("x.cedar:1:")
    );
    assert!(read("").unwrap().is_empty());
}

#[test]
fn a_policy_that_cannot_be_evaluated_is_a_no_even_if_another_permits() {
    let text = "@id(\"all\") permit (principal, action, resource);
        @id(\"never\") forbid (principal, action, resource) when { 9223372036854775807 + (if context.grpc then 1 else 0) == 0 };";
    let policies = Policies::parse(&BTreeMap::from([("x.cedar".to_owned(), text.to_owned())])).unwrap();
    let principal = Principal::User { name: "ana".into(), roles: Vec::new() };
    let verdict =
        policies.judge(&principal, &Action { method: "GET", path: "/", grpc: false, extensions: &[] });
    assert!(verdict.permitted);
    let verdict =
        policies.judge(&principal, &Action { method: "GET", path: "/", grpc: true, extensions: &[] });
    assert!(!verdict.permitted && verdict.failed.unwrap().contains("overflow"));
}

#[test]
fn an_allowed_call_gets_our_headers_in_place_of_the_callers_and_loses_its_token() {
    let issuer = issuer();
    let response = authorizer(&issuer).answer(&hello(&token(&issuer, &["reader"])), now());
    let Some(HttpResponse::OkResponse(ok)) = response.http_response else { panic!("{response:?}") };
    assert_eq!(ok.headers_to_remove, ["authorization"]);
    let headers: Vec<_> =
        ok.headers.iter().map(|one| (one.header.clone().unwrap(), one.append_action)).collect();
    let names: Vec<_> =
        headers.iter().map(|(header, _)| (header.key.as_str(), header.value.as_str())).collect();
    assert_eq!(names, [(PRINCIPAL, "ana"), (ROLES, "reader")]);
    // OVERWRITE_IF_EXISTS_OR_ADD
    assert!(headers.iter().all(|(_, action)| *action == 2), "{headers:?}");
}

#[test]
fn a_refusal_has_the_callers_form_and_no_detail() {
    let issuer = issuer();
    let authorizer = authorizer(&issuer);
    let expired = Claims { exp: 1, nbf: 0, ..claims(&["reader"]) };
    let token = issuer.sign(&expired).unwrap();
    let bearer = format!("Bearer {token}");
    for grpc in [true, false] {
        let mut headers = vec![("authorization", bearer.as_bytes())];
        if grpc {
            headers.push(("content-type", b"application/grpc+proto"));
        }
        let response = authorizer.answer(&ask("POST", HELLO, &headers), now());
        assert_eq!(response.status.as_ref().unwrap().code, 16);
        let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else { panic!() };
        let expected = "valid credentials are needed";
        let expected = if grpc { expected.to_owned() } else { format!("{{\"error\":\"{expected}\"}}\n") };
        assert_eq!((denied.status.unwrap().code, denied.body), (401, expected));
        let headers: Vec<_> = denied.headers.into_iter().map(|one| one.header.unwrap().key).collect();
        assert!(headers.contains(&"www-authenticate".to_owned()), "{headers:?}");
    }
}

#[test]
fn a_certificate_is_enough_but_does_not_make_a_bad_token_good() {
    let issuer = issuer();
    let authorizer = authorizer(&issuer);
    let with = |principal: &str, headers: &[(&str, &[u8])]| {
        let mut request = ask("POST", HELLO, headers);
        let source = Peer { principal: principal.to_owned(), ..Peer::default() };
        request.attributes.as_mut().unwrap().source = Some(source);
        answer(&authorizer, &request)
    };
    let printer = "spiffe://demo5.example/ns/cards/sa/printer";
    assert_eq!(with(printer, &[]), 200);
    assert_eq!(with("spiffe://demo5.example/ns/cards/sa/other", &[]), 403);
    assert_eq!(with("spiffe://elsewhere.example/ns/cards/sa/printer", &[]), 401);
    assert_eq!(with("printer.demo5.example", &[]), 401);
    assert_eq!(with("CN=printer", &[]), 401);
    assert_eq!(with(printer, &[("authorization", b"Bearer x")]), 401);
    assert_eq!(with("", &[]), 401);
}

#[test]
fn every_form_of_the_authorization_header_that_is_not_one_bearer_token_is_refused() {
    let issuer = issuer();
    let authorizer = authorizer(&issuer);
    let good = token(&issuer, &["reader"]);
    let of = |values: &[&str]| {
        let headers: Vec<_> = values.iter().map(|value| ("authorization", value.as_bytes())).collect();
        answer(&authorizer, &ask("POST", HELLO, &headers))
    };
    assert_eq!(of(&[&format!("Bearer {good}")]), 200);
    assert_eq!(of(&[&format!("bEaReR  {good} ")]), 200);
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YW5hOmFuYQ==",
        &good,
        &format!("Token {good}"),
        &format!("Bearer{good}"),
    ] {
        assert_eq!(of(&[bad]), 401, "{bad}");
    }
    let twice = format!("Bearer {good}");
    assert_eq!(of(&[&twice, &twice]), 400);
    // As Envoy describes them without `encode_raw_headers`: joined.
    let joined = HttpRequest {
        method: "POST".into(),
        path: HELLO.into(),
        headers: [("authorization".to_owned(), format!("{twice},{twice}"))].into(),
        ..HttpRequest::default()
    };
    assert_eq!(answer(&authorizer, &with_http(joined)), 401);
    let single = HttpRequest {
        method: "POST".into(),
        path: HELLO.into(),
        headers: [("authorization".to_owned(), twice.clone())].into(),
        ..HttpRequest::default()
    };
    assert_eq!(answer(&authorizer, &with_http(single)), 200);
    assert_eq!(answer(&authorizer, &ask("POST", HELLO, &[("authorization", b"Bearer \xff\xfe\x00")])), 401);
}

#[test]
fn hostile_questions_are_refused_and_none_is_a_panic() {
    let issuer = issuer();
    let authorizer = authorizer(&issuer);
    let bearer = format!("Bearer {}", token(&issuer, &["admin"]));
    let bearer = ("authorization", bearer.as_bytes());
    let refused = |request: &CheckRequest| {
        let status = answer(&authorizer, request);
        assert_eq!(status, 400);
    };
    refused(&CheckRequest::default());
    refused(&CheckRequest { attributes: Some(Default::default()) });
    refused(&with_http(HttpRequest::default()));
    let large = vec![b'a'; 1 << 20];
    refused(&ask("POST", HELLO, &[bearer, ("x", &large)]));
    let name = "x".repeat(1 << 20);
    refused(&ask("POST", HELLO, &[bearer, (&name, b"")]));
    let many: Vec<(&str, &[u8])> =
        std::iter::once(bearer).chain((0..10_000).map(|_| ("x", &b"1"[..]))).collect();
    refused(&ask("POST", HELLO, &many));
    let just: Vec<(&str, &[u8])> =
        std::iter::once(bearer).chain((1..HEADERS).map(|_| ("x", &b"1"[..]))).collect();
    assert_eq!(answer(&authorizer, &ask("POST", HELLO, &just)), 200, "as many as there may be");
    let long = vec![b'a'; HEADER_BYTES];
    refused(&ask("POST", HELLO, &[bearer, ("x", &long)]));
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
        refused(&ask("GET", path, &[bearer]));
    }
    refused(&ask("GET", &format!("/{}", "a".repeat(9000)), &[bearer]));
    for method in ["", "get", "GET\r\n", "G E T"] {
        refused(&ask(method, "/hello", &[bearer]));
    }
    // The query is no part of what policies see.
    assert_eq!(answer(&authorizer, &ask("GET", "/hello?x=/../vault", &[bearer])), 200);
    assert_eq!(answer(&authorizer, &ask("GET", "/hello?../..", &[bearer])), 200);
    assert_eq!(answer(&authorizer, &ask("BREW", "/hello", &[bearer])), 200, "an admin may");
    assert_eq!(answer(&authorizer, &ask("GET", "/\u{202e}olleh", &[bearer])), 200, "text is text");
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
    fn no_sequence_of_bytes_is_believed_unless_our_key_signed_it(bytes in bytes()) {
        let (issuer, authorizer, good) = &*SHARED;
        // What a signature is over: all before the last dot, and the signature itself.
        prop_assume!(bytes != good.as_bytes());
        let value = [b"Bearer ", &bytes[..]].concat();
        // A header's value is trimmed, so the good token with a blank around it is the good token.
        prop_assume!(bytes.trim_ascii() != good.as_bytes());
        prop_assert_eq!(answer(authorizer, &ask("POST", HELLO, &[("authorization", &value)])), 401);
        prop_assert!(verifier(issuer).verify(&bytes, now()).is_err());
    }

    #[test]
    fn no_question_is_a_panic_or_an_allow_without_credentials(
        method in ".{0,10}",
        path in ".{0,60}",
        names in proptest::collection::vec("[a-z-]{1,20}", 0..20),
        value in proptest::collection::vec(any::<u8>(), 0..60),
        principal in ".{0,40}",
    ) {
        let headers: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &value[..])).collect();
        let mut request = ask(&method, &path, &headers);
        request.attributes.as_mut().unwrap().source = Some(Peer { principal, ..Peer::default() });
        prop_assert_ne!(answer(&SHARED.1, &request), 200);
    }
}

#[test]
fn a_withdrawn_key_is_not_believed_from_memory() {
    let (old, new) = (issuer(), issuer());
    let token = token(&old, &["reader"]);
    let (keys, receiver) = tokio::sync::watch::channel(std::sync::Arc::new(verifier(&old)));
    let policies = tokio::sync::watch::channel(std::sync::Arc::new(policies())).1;
    let metrics = demo5_authz::metrics::Metrics::new().unwrap();
    let log = demo5_authz::decision_log::DecisionLog::off();
    let authorizer = Authorizer::new(receiver, policies, "demo5.example", metrics, log);
    assert_eq!(answer(&authorizer, &hello(&token)), 200);
    keys.send_replace(std::sync::Arc::new(Verifier::new(
        Jwks::parse(&new.jwks()).unwrap(),
        Expected::default(),
    )));
    assert_eq!(answer(&authorizer, &hello(&token)), 401);
}
