//! Whose signature counts: the key, its algorithm, and the sets that keys come in.
//!
//! Does not know what a token claims: that is in `tokens.rs`.

use demo5_authz::authorizer::Authorizer;
use demo5_authz::issuer::{Issuer, KeyType, jwks};
use demo5_authz::jwks::{Jwks, JwksError};
use demo5_authz::token::{TokenError, ValidationParams, Verifier};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::common::{claims, hello, http_status, issuer, policies, token, verifier};
use super::{base64url, now};

fn verify_with_header(issuer: &Issuer, change: impl FnOnce(&mut Header)) -> Result<(), TokenError> {
    let mut header = issuer.header();
    change(&mut header);
    let token = issuer.sign_with_header(&header, &claims(&["reader"])).unwrap();
    verifier(issuer).verify(token.as_bytes(), now()).map(drop)
}

/// A token of hand-made parts, without a signature.
fn unsigned(header: &serde_json::Value, claims: &serde_json::Value) -> String {
    format!("{}.{}.", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

#[test]
fn the_algorithm_comes_from_the_key_not_from_the_token() {
    let issuer = issuer();
    let claims = serde_json::to_value(claims(&["admin"])).unwrap();
    let verifier = verifier(&issuer);
    for algorithm in ["none", "None", "NONE", "nOnE", "HS256", "ES256", "RS256", ""] {
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": issuer.key_id() });
        let token = unsigned(&header, &claims);
        assert_eq!(
            verifier.verify(token.as_bytes(), now()),
            Err(TokenError::AlgorithmMismatch),
            "{algorithm}"
        );
    }
    // The public key, which everybody knows, as the secret of an HMAC.
    for secret in [issuer.public_bytes(), issuer.jwks().as_bytes()] {
        let header = Header { kid: Some(issuer.key_id().to_owned()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap();
        assert_eq!(verifier.verify(token.as_bytes(), now()), Err(TokenError::AlgorithmMismatch));
    }
}

#[test]
fn a_token_needs_a_known_key_id_and_its_signature() {
    let (issuer, untrusted) = (issuer(), untrusted_issuer());
    assert_eq!(verify_with_header(&issuer, |header| header.kid = None), Err(TokenError::MissingKeyId));
    assert_eq!(
        verify_with_header(&issuer, |header| header.kid = Some("another".into())),
        Err(TokenError::UnknownKeyId)
    );
    let huge = "k".repeat(4000);
    assert_eq!(verify_with_header(&issuer, |header| header.kid = Some(huge)), Err(TokenError::UnknownKeyId));
    for path in ["../../../dev/null", "' OR 1=1 --", "\0"] {
        assert_eq!(
            verify_with_header(&issuer, |header| header.kid = Some(path.into())),
            Err(TokenError::UnknownKeyId)
        );
    }
    // Signed by somebody else, who says it was our key; also with that key in the header.
    let header = Header { kid: issuer.header().kid, ..untrusted.header() };
    let forged = untrusted.sign_with_header(&header, &claims(&["admin"])).unwrap();
    assert_eq!(verifier(&issuer).verify(forged.as_bytes(), now()), Err(TokenError::InvalidSignature));
    let own: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&untrusted.jwks()).unwrap();
    let header = Header { jwk: own.keys.first().cloned(), ..header };
    let forged = untrusted.sign_with_header(&header, &claims(&["admin"])).unwrap();
    assert_eq!(verifier(&issuer).verify(forged.as_bytes(), now()), Err(TokenError::InvalidSignature));
}

fn untrusted_issuer() -> Issuer {
    issuer()
}

#[test]
fn critical_extensions_are_rejected() {
    let issuer = issuer();
    assert_eq!(
        verify_with_header(&issuer, |header| header.crit = Some(vec!["exp".into()])),
        Err(TokenError::UnsupportedCritical)
    );
    assert_eq!(
        verify_with_header(&issuer, |header| header.extras.insert("b64", false)),
        Err(TokenError::UnsupportedCritical)
    );
}

#[test]
fn an_invalid_jwks_is_rejected_with_the_index_of_the_key() {
    let issuer = issuer();
    let good = Jwks::parse(&jwks([&issuer, &Issuer::generate(KeyType::Es256).unwrap()])).unwrap();
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
    // No point on the curve; and one of small order, for which anybody can make signatures.
    for y in [2, 1] {
        let mut point = vec![0; 32];
        point[0] = y;
        assert_eq!(
            set(&|key| key["x"] = json!(base64url(&point))),
            "keys[0] is no public key of its kind",
            "{y}"
        );
    }
    // The same for the other kind; the last of these is no point on its curve.
    let other = Issuer::generate(KeyType::Es256).unwrap().jwks();
    let coordinate = |length| json!(base64url(&vec![1; length]));
    for (name, value) in
        [("x", coordinate(31)), ("x", coordinate(33)), ("y", coordinate(0)), ("y", coordinate(32))]
    {
        let mut set: serde_json::Value = serde_json::from_str(&other).unwrap();
        set["keys"][0][name] = value;
        let message = Jwks::parse(&set.to_string()).unwrap_err().to_string();
        assert_eq!(message, "keys[0] is no public key of its kind", "{name}");
    }
    let private = set(&|key| key["d"] = json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"));
    assert!(private.starts_with("keys[0] is a private") && !private.contains("nWGx"), "{private}");
    assert_eq!(set(&|key| drop(key.as_object_mut().unwrap().remove("kid"))), "keys[0] has no \"kid\"");
    assert!(set(&|key| key["alg"] = json!("ES256")).starts_with("no key for"));
    assert!(set(&|key| key["use"] = json!("enc")).starts_with("no key for"));
    assert!(matches!(Jwks::parse(&jwks([&issuer, &issuer])), Err(JwksError::DuplicateKeyId { number: 1 })));
    assert_eq!(
        Jwks::parse("{\n \"keys\": [").unwrap_err().to_string(),
        "line 2, column 10: not a JSON object with a list of \"keys\""
    );
    let secret = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"1"}]}"#;
    assert!(matches!(Jwks::parse(secret), Err(JwksError::PrivateKey { number: 0 })));
}

#[test]
fn a_cached_token_of_a_removed_key_is_rejected() {
    let (old, new) = (issuer(), issuer());
    let token = token(&old, &["reader"]);
    let (keys, receiver) = tokio::sync::watch::channel(std::sync::Arc::new(verifier(&old)));
    let policies = tokio::sync::watch::channel(std::sync::Arc::new(policies())).1;
    let metrics = demo5_authz::metrics::Metrics::new().unwrap();
    let log = demo5_authz::decision_log::DecisionLog::disabled();
    let authorizer = Authorizer::new(receiver, policies, "demo5.example", metrics, log);
    assert_eq!(http_status(&authorizer, &hello(&token)), 200);
    keys.send_replace(std::sync::Arc::new(Verifier::new(
        Jwks::parse(&new.jwks()).unwrap(),
        ValidationParams::default(),
    )));
    assert_eq!(http_status(&authorizer, &hello(&token)), 401);
}
