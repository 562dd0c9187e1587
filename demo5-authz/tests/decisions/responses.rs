//! What Envoy is answered to a question of the usual kind: headers in place of credentials, or a refusal.
//!
//! Does not know which tokens are good, nor what the policies say: it takes one of each.

use demo5_authz::claims::Claims;
use demo5_authz::decision::{PRINCIPAL_HEADER, ROLES_HEADER};
use envoy_types::ext_authz::v3::pb::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};

use super::common::{HELLO, authorizer, check_request, claims, hello, http_status, issuer, token, with_http};
use super::now;

#[test]
fn an_allowed_call_gets_our_headers_and_loses_its_token() {
    let issuer = issuer();
    let response = authorizer(&issuer).check_at(&hello(&token(&issuer, &["reader"])), now());
    let Some(HttpResponse::OkResponse(ok)) = response.http_response else { panic!("{response:?}") };
    assert_eq!(ok.headers_to_remove, ["authorization"]);
    let headers: Vec<_> =
        ok.headers.iter().map(|one| (one.header.clone().unwrap(), one.append_action)).collect();
    let names: Vec<_> =
        headers.iter().map(|(header, _)| (header.key.as_str(), header.value.as_str())).collect();
    assert_eq!(names, [(PRINCIPAL_HEADER, "ana"), (ROLES_HEADER, "reader")]);
    // OVERWRITE_IF_EXISTS_OR_ADD
    assert!(headers.iter().all(|(_, action)| *action == 2), "{headers:?}");
}

#[test]
fn a_denial_matches_the_protocol_and_has_no_detail() {
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
        let response = authorizer.check_at(&check_request("POST", HELLO, &headers), now());
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
fn a_certificate_authenticates_but_does_not_override_an_invalid_token() {
    let issuer = issuer();
    let authorizer = authorizer(&issuer);
    let with = |principal: &str, headers: &[(&str, &[u8])]| {
        let mut request = check_request("POST", HELLO, headers);
        let source = Peer { principal: principal.to_owned(), ..Peer::default() };
        request.attributes.as_mut().unwrap().source = Some(source);
        http_status(&authorizer, &request)
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
fn an_authorization_header_without_exactly_one_bearer_token_is_denied() {
    let issuer = issuer();
    let authorizer = authorizer(&issuer);
    let good = token(&issuer, &["reader"]);
    let status_of = |values: &[&str]| {
        let headers: Vec<_> = values.iter().map(|value| ("authorization", value.as_bytes())).collect();
        http_status(&authorizer, &check_request("POST", HELLO, &headers))
    };
    assert_eq!(status_of(&[&format!("Bearer {good}")]), 200);
    assert_eq!(status_of(&[&format!("bEaReR  {good} ")]), 200);
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YW5hOmFuYQ==",
        &good,
        &format!("Token {good}"),
        &format!("Bearer{good}"),
    ] {
        assert_eq!(status_of(&[bad]), 401, "{bad}");
    }
    let twice = format!("Bearer {good}");
    assert_eq!(status_of(&[&twice, &twice]), 400);
    // As Envoy describes them without `encode_raw_headers`: joined.
    let joined = HttpRequest {
        method: "POST".into(),
        path: HELLO.into(),
        headers: [("authorization".to_owned(), format!("{twice},{twice}"))].into(),
        ..HttpRequest::default()
    };
    assert_eq!(http_status(&authorizer, &with_http(joined)), 401);
    let single = HttpRequest {
        method: "POST".into(),
        path: HELLO.into(),
        headers: [("authorization".to_owned(), twice.clone())].into(),
        ..HttpRequest::default()
    };
    assert_eq!(http_status(&authorizer, &with_http(single)), 200);
    assert_eq!(
        http_status(&authorizer, &check_request("POST", HELLO, &[("authorization", b"Bearer \xff\xfe\x00")])),
        401
    );
}
