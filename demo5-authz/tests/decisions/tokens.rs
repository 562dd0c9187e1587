//! What makes a token believed: its form, what it claims, and when; and what is remembered of good ones.
//!
//! Does not know whose key signed it: that is in `keys.rs`.

use std::time::{Duration, SystemTime};

use demo5_authz::claims::{Audience, Claims};
use demo5_authz::issuer::{Issuer, KeyType};
use demo5_authz::token::{MAX_TOKEN_BYTES, TokenError, ValidationParams};
use serde_json::json;

use super::common::{claims, issuer, token, verifier};
use super::{base64url, now};

/// What the verifier says to a token with these claims.
fn verify_claims(issuer: &Issuer, claims: &impl serde::Serialize) -> Result<(), TokenError> {
    verifier(issuer).verify(issuer.sign(claims).unwrap().as_bytes(), now()).map(drop)
}

#[test]
fn a_token_of_either_key_type_has_subject_and_roles() {
    for kind in [KeyType::Eddsa, KeyType::Es256] {
        let issuer = Issuer::generate(kind).unwrap();
        let verified = verifier(&issuer).verify(token(&issuer, &["reader"]).as_bytes(), now()).unwrap();
        assert_eq!((verified.subject(), verified.roles().collect::<Vec<_>>()), ("ana", vec!["reader"]));
    }
}

#[test]
fn each_invalid_claim_has_its_error() {
    let issuer = issuer();
    let base = claims(&["reader"]);
    let with = |change: fn(&mut Claims)| {
        let mut claims = base.clone();
        change(&mut claims);
        verify_claims(&issuer, &claims)
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|claims| claims.iss = "https://elsewhere.example".into()), Err(TokenError::WrongIssuer));
    assert_eq!(with(|claims| claims.aud = Audience::One("another".into())), Err(TokenError::WrongAudience));
    let multiple = Audience::Multiple(vec!["another".into(), "greeter".into()]);
    assert_eq!(verify_claims(&issuer, &Claims { aud: multiple, ..base.clone() }), Ok(()));
    assert_eq!(with(|claims| claims.exp = claims.nbf - 3600), Err(TokenError::Expired));
    assert_eq!(with(|claims| claims.nbf += 3600), Err(TokenError::NotYetValid));
    assert_eq!(with(|claims| claims.sub = String::new()), Err(TokenError::Malformed));
    // What would become a second header, or a second role.
    assert_eq!(with(|claims| claims.sub = "ana\r\nx-auth-roles: admin".into()), Err(TokenError::Malformed));
    assert_eq!(with(|claims| claims.roles = vec!["reader,admin".into()]), Err(TokenError::Malformed));
    assert_eq!(with(|claims| claims.roles = vec!["reader".into(); 17]), Err(TokenError::Malformed));
    for missing in ["iss", "aud", "sub", "nbf", "exp"] {
        let mut value = serde_json::to_value(&base).unwrap();
        value.as_object_mut().unwrap().remove(missing);
        assert_eq!(verify_claims(&issuer, &value), Err(TokenError::Malformed), "{missing}");
    }
    for (claim, value) in
        [("exp", json!("tomorrow")), ("exp", json!(-1)), ("nbf", json!(1e300)), ("aud", json!(7))]
    {
        let mut changed = serde_json::to_value(&base).unwrap();
        changed[claim] = value;
        assert!(verify_claims(&issuer, &changed).is_err(), "{claim}");
    }
}

#[test]
fn clocks_may_differ_by_at_most_the_skew() {
    let issuer = issuer();
    let skew = ValidationParams::default().skew;
    let claims = claims(&[]);
    let token = issuer.sign(&claims).unwrap();
    let from = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.nbf);
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.exp);
    let second = Duration::from_secs(1);
    for (time, expected) in [
        (from - skew - second, Some(TokenError::NotYetValid)),
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
fn invalid_text_is_malformed_or_too_long() {
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
    assert_eq!(verifier.verify(hollow.as_bytes(), now()), Err(TokenError::InvalidSignature));
    assert_eq!(verifier.verify(&vec![b'a'; MAX_TOKEN_BYTES + 1], now()), Err(TokenError::TooLong));
    assert_eq!(verifier.verify(&vec![0xff; 1 << 20], now()), Err(TokenError::TooLong));
    assert_eq!(verifier.verify(b"\xff\xfe.\x00.\x80", now()), Err(TokenError::Malformed));
}

/// The token with another first character in its signature.
fn with_changed_signature(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{other}{}", &signature[1..])
}

#[test]
fn only_a_signature_of_our_key_is_valid() {
    for kind in [KeyType::Eddsa, KeyType::Es256] {
        let (issuer, untrusted) = (Issuer::generate(kind).unwrap(), Issuer::generate(kind).unwrap());
        let verifier = verifier(&issuer);
        let good = token(&issuer, &["reader"]);
        verifier.verify(good.as_bytes(), now()).unwrap();
        let (signed, signature) = good.rsplit_once('.').unwrap();
        // What the key signs in another form: ECDSA's is then ASN.1, as certificates have it.
        let pair = rcgen::KeyPair::from_pem(&issuer.private_pem()).unwrap();
        let other_form = rcgen::SigningKey::sign(&pair, signed.as_bytes()).unwrap();
        let mut bad = vec![
            with_changed_signature(&good),
            untrusted.sign_with_header(&issuer.header(), &claims(&["reader"])).unwrap(),
            format!("{signed}.{signature}AA"),
            format!("{signed}.{}", &signature[..84]),
            format!("{signed}."),
            format!("{signed}.{}", base64url(&[0; 64])),
            format!("{signed}.{}", base64url(&[0xff; 64])),
        ];
        if kind == KeyType::Es256 {
            bad.push(format!("{signed}.{}", base64url(&other_form)));
        }
        for token in bad {
            assert_eq!(
                verifier.verify(token.as_bytes(), now()),
                Err(TokenError::InvalidSignature),
                "{kind:?} {token}"
            );
        }
    }
}

#[test]
fn a_token_is_verified_once_and_only_valid_ones_are_cached() {
    let issuer = issuer();
    let verifier = verifier(&issuer);
    let good = token(&issuer, &["reader"]);
    for _ in 0..3 {
        verifier.verify(good.as_bytes(), now()).unwrap();
    }
    assert_eq!((verifier.cache().len(), verifier.cache().lookups()), (1, (2, 1)));
    verifier.verify(with_changed_signature(&good).as_bytes(), now()).unwrap_err();
    assert_eq!(verifier.cache().len(), 1);
}

#[test]
fn the_token_cache_is_bounded() {
    let issuer = issuer();
    let cache = demo5_authz::cache::TokenCache::default();
    let verified = verifier(&issuer).verify(token(&issuer, &[]).as_bytes(), now()).unwrap();
    let capacity = demo5_authz::cache::CAPACITY;
    for number in 0..capacity {
        cache.insert(&number.to_be_bytes(), verified.clone());
    }
    assert_eq!((cache.len(), cache.get(&0_u32.to_be_bytes())), (capacity as usize, Some(verified.clone())));
    cache.insert(&capacity.to_be_bytes(), verified);
    assert_eq!(cache.len(), capacity as usize);
    assert!(cache.get(&1_u32.to_be_bytes()).is_none(), "the one not used for longest went");
    assert!(cache.get(&0_u32.to_be_bytes()).is_some(), "the one used last stays");
}
