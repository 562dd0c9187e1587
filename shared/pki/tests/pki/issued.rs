//! What our own types issue: it is believed, is what was asked for, and is nothing that should not be.
//!
//! Does not know how else a certificate can be wrong: those that our types refuse to make are in `test_certificate.rs`.

use std::time::Duration;

use mesh_pki::tls::Credentials;
use mesh_pki::{
    BadName, Certificate, KeyPem, Names, PkiError, Purpose, Root, Roots, SpiffeId, Untrusted, Usage,
    Validity, verify,
};

use super::{DAY, WEB, intermediate, leaf, life, names, now, root, roots, server};

#[test]
fn a_leaf_verifies_and_yields_its_identity() {
    let intermediate = intermediate();
    let web = leaf(&intermediate, Usage::Both);
    let roots = roots(&intermediate);
    for purpose in [server(), Purpose::server("127.0.0.1").unwrap(), Purpose::Client] {
        let identity = verify(&web.chain_pem, &roots, now(), &purpose).unwrap();
        assert_eq!(identity.names, names());
        assert_eq!(identity.spiffe_id().unwrap().as_str(), WEB);
        assert_eq!(identity.spiffe_id().unwrap().trust_domain(), "mesh");
        assert_eq!(identity.serial, web.serial);
        assert_eq!(identity.validity.not_after(), web.not_after);
    }
}

#[test]
fn an_rsa_leaf_is_trusted_too() {
    // Made by OpenSSL, since we make none.
    let chain = include_str!("../data/rsa-leaf.pem");
    let roots = Roots::from_pem(include_str!("../data/rsa-root.pem")).unwrap();
    verify(chain, &roots, now(), &server()).unwrap();
    let leaf = &Certificate::read_pem(chain).unwrap()[0];
    assert_eq!(leaf.key(), "RSA 2048");
    assert_eq!(leaf.key_usages().unwrap(), ["digital signature", "key encipherment"]);
    let key = KeyPem::parse(include_str!("../data/rsa-key.pem")).unwrap();
    Credentials::from_pem(chain, &key).unwrap();
}

#[test]
fn a_wildcard_matches_one_label() {
    let intermediate = intermediate();
    let names = Names::default().dns("*.example.org").unwrap();
    let web = intermediate.issue(&names, Usage::Server, life(1)).unwrap();
    let ask = |host| verify(&web.chain_pem, &roots(&intermediate), now(), &Purpose::server(host).unwrap());
    ask("a.example.org").unwrap();
    assert!(matches!(ask("a.b.example.org"), Err(Untrusted::WrongHost { .. })));
    assert!(matches!(ask("example.org"), Err(Untrusted::WrongHost { .. })));
}

#[test]
fn an_issued_certificate_has_the_requested_contents() {
    let intermediate = intermediate();
    let web = leaf(&intermediate, Usage::Server);
    let chain = Certificate::read_pem(&web.chain_pem).unwrap();
    let [leaf, issuer] = &chain[..] else { panic!("{} certificates", chain.len()) };
    assert_eq!(leaf.purposes().unwrap(), ["server"]);
    assert_eq!(leaf.key_usages().unwrap(), ["digital signature"]);
    assert!(!leaf.is_authority());
    assert_eq!(leaf.issuer(), issuer.subject());
    assert_eq!(leaf.key(), "ECDSA P-256");
    let ahead = leaf.validity().not_before() + Duration::from_secs(4 * 60) < now();
    assert!(ahead, "dated back for clocks that are slow");
    assert_eq!((issuer.is_authority(), issuer.path_length()), (true, Some(0)));
    assert_eq!(issuer.key_usages().unwrap(), ["key cert sign", "crl sign"]);
    assert_eq!(intermediate.root().path_length(), Some(1));
    assert_eq!(web.chain_pem, web.leaf_pem + &intermediate.pem());
}

#[test]
fn serials_are_random_and_of_128_bits() {
    let intermediate = intermediate();
    let serials: Vec<_> = (0..20).map(|_| leaf(&intermediate, Usage::Both).serial.to_string()).collect();
    let distinct: std::collections::HashSet<_> = serials.iter().collect();
    assert_eq!(distinct.len(), serials.len());
    // All twenty being short by a byte happens once in 256^20 runs.
    assert!(serials.iter().any(|serial| serial.len() == 32), "{serials:?}");
    assert!(serials.iter().all(|serial| serial.len() <= 32), "{serials:?}");
}

#[test]
fn a_certificate_expires_before_its_issuer_and_needs_a_name() {
    let too_long = root().sign_intermediate("intermediate", life(301)).unwrap_err();
    assert!(
        matches!(&too_long, PkiError::OutlivesIssuer { issuer, .. } if issuer.contains("test root")),
        "{too_long}"
    );
    let intermediate = intermediate();
    let too_long = intermediate.issue(&names(), Usage::Both, life(31)).unwrap_err();
    assert!(too_long.to_string().contains("choose a shorter life"), "{too_long}");
    let without_names = intermediate.issue(&Names::default(), Usage::Both, life(1));
    assert!(matches!(without_names, Err(PkiError::NoNames)));
    let backwards = Validity::between(now(), now() - DAY);
    assert!(matches!(backwards, Err(PkiError::BadValidity { .. })));
    for name in ["", "a\nb", &"x".repeat(65)] {
        let refused = Root::generate(name, life(1));
        assert!(matches!(refused, Err(PkiError::AuthorityName)), "{name:?}");
    }
}

#[test]
fn only_valid_names_are_accepted() {
    for bad in [
        "",
        ".",
        "a b",
        "a..b",
        "web.example.",
        "*",
        "*.com",
        "*.*.example.org",
        "127.0.0.1",
        "::1",
        "ü.example",
    ] {
        assert!(matches!(Names::default().dns(bad), Err(BadName::Dns { .. })), "{bad:?}");
    }
    assert_eq!(Names::default().dns("Web.Example").unwrap().dns_names(), ["web.example"]);
    for bad in [
        "",
        "mesh/a",
        "https://mesh/a",
        "spiffe://",
        "spiffe:///a",
        "spiffe://mesh/",
        "spiffe://mesh//a",
        "spiffe://mesh/./a",
        "spiffe://mesh/a/../b",
        "spiffe://Mesh/a",
        "spiffe://mesh:80/a",
        "spiffe://user@mesh/a",
        "spiffe://mesh/a?b",
        "spiffe://mesh/a#b",
        "spiffe://mesh/%61",
        "spiffe://mesh/a\n",
    ] {
        assert!(matches!(SpiffeId::parse(bad), Err(BadName::Spiffe { .. })), "{bad:?}");
    }
    SpiffeId::parse("spiffe://mesh.example_1-2").unwrap();
    Purpose::server("not a host").unwrap_err();
}

#[test]
fn a_kept_root_key_signs_again_and_no_other_key_does() {
    let first = root();
    let (pem, key) = (first.pem(), first.key_pem());
    drop(first);
    let again = Root::open(&pem, &key).unwrap().sign_intermediate("second intermediate", life(30)).unwrap();
    let web = leaf(&again, Usage::Both);
    verify(&web.chain_pem, &Roots::from_pem(&pem).unwrap(), now(), &server()).unwrap();
    let other = Root::open(&pem, &root().key_pem()).unwrap_err();
    assert!(
        matches!(&other, PkiError::KeyDoesNotFit { subject } if subject.contains("test root")),
        "{other}"
    );
    let leaf = Root::open(&web.leaf_pem, &web.key_pem).unwrap_err();
    assert!(matches!(leaf, PkiError::NotAnAuthority { .. }), "{leaf}");
    assert!(matches!(Roots::from_pem(&web.leaf_pem), Err(PkiError::NotAnAuthority { .. })));
}
