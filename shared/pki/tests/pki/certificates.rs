//! What a certificate says of itself, and is refused for: dates, names, uses.
//!
//! Does not know how certificates hang together: that is in `chains.rs`.

use mesh_pki::{Names, PemError, Purpose, Untrusted, Usage, Validity, verify};
use rcgen::{CertificateParams, KeyUsagePurpose, SanType};

use super::test_certificate::{TestCertificate, authority, serves_web};
use super::{DAY, WEB, intermediate, leaf, life, names, now, roots, server};

#[test]
fn an_expired_leaf_intermediate_or_root_is_named_with_its_date() {
    let old = |params: &mut CertificateParams| params.not_after = (now() - DAY / 2).into();
    let root = TestCertificate::root();
    let good = TestCertificate::new("good intermediate", Some(&root), authority(Some(0)));
    let stale = TestCertificate::new("stale intermediate", Some(&root), |params| {
        authority(Some(0))(params);
        old(params);
    });
    let stale_root = TestCertificate::new("stale root", None, |params| {
        authority(None)(params);
        old(params);
    });
    let leaf = |name, issuer| TestCertificate::new(name, Some(issuer), serves_web);
    let stale_leaf = TestCertificate::new("stale leaf", Some(&good), |params| {
        serves_web(params);
        old(params);
    });
    for (refused, whose) in [
        (root.rejects(&[&stale_leaf, &good]), "stale leaf"),
        (root.rejects(&[&leaf("leaf", &stale), &stale]), "stale intermediate"),
        (stale_root.rejects(&[&leaf("leaf", &stale_root)]), "stale root"),
    ] {
        let Untrusted::Expired { subject, not_after } = &refused else { panic!("{whose}: {refused}") };
        assert!(subject.contains(whose), "{refused}");
        assert!(*not_after < now() && *not_after > now() - DAY, "{refused}");
        assert!(refused.to_string().contains(" UTC: issue a new one"), "{refused}");
    }
}

#[test]
fn a_certificate_that_is_not_yet_valid_is_rejected_with_its_date() {
    let intermediate = intermediate();
    let later = Validity::between(now() + DAY, now() + DAY * 2).unwrap();
    let web = intermediate.issue(&names(), Usage::Both, later).unwrap();
    let refused = verify(&web.chain_pem, &roots(&intermediate), now(), &server()).unwrap_err();
    let Untrusted::NotYetValid { subject, not_before } = &refused else { panic!("{refused}") };
    assert!(subject.contains("web.example"));
    assert_eq!(*not_before, later.not_before());
    assert!(refused.to_string().contains("clocks"), "{refused}");
    verify(&web.chain_pem, &roots(&intermediate), now() + DAY * 2 - DAY / 2, &server()).unwrap();

    let future_root = TestCertificate::new("future root", None, |params| {
        authority(None)(params);
        params.not_before = (now() + DAY / 2).into();
    });
    let refused = future_root.rejects(&[&TestCertificate::new("leaf", Some(&future_root), serves_web)]);
    assert!(
        matches!(&refused, Untrusted::NotYetValid { subject, .. } if subject.contains("future root")),
        "{refused}"
    );
}

#[test]
fn a_host_name_mismatch_lists_the_names_in_the_certificate() {
    let intermediate = intermediate();
    let web = leaf(&intermediate, Usage::Both);
    for asked in ["api.example", "10.0.0.1"] {
        let refused = verify(&web.chain_pem, &roots(&intermediate), now(), &Purpose::server(asked).unwrap());
        let names = format!("web.example, 127.0.0.1, {WEB}");
        assert_eq!(refused, Err(Untrusted::WrongHost { asked: asked.to_owned(), names }));
    }
    // A SPIFFE ID is no host name, and a certificate with nothing else serves no host.
    let only = Names::default().spiffe(WEB).unwrap();
    let only = intermediate.issue(&only, Usage::Both, life(1)).unwrap();
    verify(&only.chain_pem, &roots(&intermediate), now(), &Purpose::Client).unwrap();
    let refused = verify(&only.chain_pem, &roots(&intermediate), now(), &server());
    assert!(matches!(refused, Err(Untrusted::WrongHost { .. })));
}

#[test]
fn a_server_certificate_is_not_a_client_certificate_and_vice_versa() {
    let intermediate = intermediate();
    let roots = roots(&intermediate);
    let check =
        |usage, purpose: &Purpose| verify(leaf(&intermediate, usage).chain_pem, &roots, now(), purpose);
    check(Usage::Server, &server()).unwrap();
    check(Usage::Client, &Purpose::Client).unwrap();
    for (usage, purpose, needs_, has_) in
        [(Usage::Server, Purpose::Client, "client", "server"), (Usage::Client, server(), "server", "client")]
    {
        let Err(Untrusted::WrongUsage { subject, required_usage, has }) = check(usage, &purpose) else {
            panic!("{usage}")
        };
        assert_eq!((required_usage, has.as_str()), (needs_, has_));
        assert!(subject.contains("web.example"));
    }
}

#[test]
fn a_usage_missing_from_the_certificate_is_rejected() {
    let root = TestCertificate::root();
    let without_extensions = TestCertificate::new("leaf", Some(&root), |params| {
        serves_web(params);
        params.extended_key_usages.clear();
    });
    let refused = root.rejects(&[&without_extensions]);
    assert!(matches!(&refused, Untrusted::WrongUsage { required_usage: "server", .. }), "{refused}");

    let signs_nothing = TestCertificate::new("leaf", Some(&root), |params| {
        serves_web(params);
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    });
    let refused = root.rejects(&[&signs_nothing]);
    assert!(
        matches!(&refused, Untrusted::WrongUsage { required_usage: "digital signature", .. }),
        "{refused}"
    );

    let no_signer = TestCertificate::new("intermediate", Some(&root), |params| {
        authority(Some(0))(params);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
    });
    let refused = root.rejects(&[&TestCertificate::new("leaf", Some(&no_signer), serves_web), &no_signer]);
    assert!(matches!(&refused, Untrusted::WrongUsage { required_usage: "key cert sign", .. }), "{refused}");
}

#[test]
fn a_certificate_with_two_spiffe_ids_has_no_identity() {
    let root = TestCertificate::root();
    let uri = |id: &str| SanType::URI(id.try_into().unwrap());
    let leaf = |ids: &[&str]| {
        TestCertificate::new("leaf", Some(&root), |params| {
            serves_web(params);
            params.subject_alt_names.extend(ids.iter().copied().map(uri));
        })
    };
    for ids in [
        &[WEB, "spiffe://mesh/admin"][..],
        &[WEB, "https://mesh"],
        &["spiffe://mesh/../admin"],
        &["SPIFFE://mesh/a"],
    ] {
        let refused = root.rejects(&[&leaf(ids)]);
        let malformed = matches!(&refused, Untrusted::Malformed(PemError::CertificateParseError { line: 1, why }) if why.contains("SPIFFE"));
        assert!(malformed, "{ids:?}: {refused}");
    }
    verify(leaf(&["https://mesh"]).pem, &root.roots(), now(), &server()).unwrap();
}
