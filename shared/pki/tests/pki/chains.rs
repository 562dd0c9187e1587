//! Who vouches for whom, and what a chain is refused for: strangers, gaps, impostors, limits that are passed.
//!
//! Does not know what a single certificate is refused for: that is in `certificates.rs`.

use std::time::SystemTime;

use mesh_pki::{Intermediate, Root, Roots, Untrusted, Usage, verify};
use rcgen::{CertificateParams, DnType, GeneralSubtree, IsCa, Issuer, KeyPair, NameConstraints};

use super::test_certificate::{TestCertificate, authority, serves_web};
use super::{DAY, intermediate, leaf, life, now, roots, server};

#[test]
fn an_untrusted_chain_and_an_incomplete_chain_name_the_missing_issuer() {
    let (ours, theirs) = (intermediate(), intermediate_of("their root"));
    let refused = verify(leaf(&theirs, Usage::Both).chain_pem, &roots(&ours), now(), &server()).unwrap_err();
    assert!(
        matches!(&refused, Untrusted::UntrustedIssuer { subject, issuer }
            if subject.contains("their root's intermediate") && issuer.contains("CN=their root")),
        "{refused}"
    );
    let refused = verify(leaf(&ours, Usage::Both).leaf_pem, &roots(&ours), now(), &server()).unwrap_err();
    assert!(
        matches!(&refused, Untrusted::UntrustedIssuer { subject, issuer }
            if subject.contains("web.example") && issuer.contains("test intermediate")),
        "{refused}"
    );
}

fn intermediate_of(root: &str) -> Intermediate {
    let name = format!("{root}'s intermediate");
    Root::generate(root, life(300)).unwrap().sign_intermediate(&name, life(30)).unwrap()
}

#[test]
fn a_root_with_the_same_name_and_another_key_is_not_trusted() {
    // Another root with the very same name.
    let (ours, impostor) = (intermediate(), intermediate());
    let refused =
        verify(leaf(&impostor, Usage::Both).chain_pem, &roots(&ours), now(), &server()).unwrap_err();
    assert!(
        matches!(&refused, Untrusted::Forged { subject } if subject.contains("web.example")),
        "{refused}"
    );
}

#[test]
fn an_intermediate_cannot_issue_another_authority() {
    let root = TestCertificate::root();
    let intermediate = TestCertificate::new("intermediate", Some(&root), authority(Some(0)));
    let second = TestCertificate::new("second", Some(&intermediate), authority(Some(0)));
    let refused =
        root.rejects(&[&TestCertificate::new("leaf", Some(&second), serves_web), &second, &intermediate]);
    let expected = Untrusted::PathTooLong { authority: "CN=intermediate".to_owned(), limit: 0 };
    assert_eq!(refused, expected);
    // Without the limit it could.
    let free = TestCertificate::new("intermediate", Some(&root), authority(None));
    let second = TestCertificate::new("second", Some(&free), authority(Some(0)));
    let chain = [&TestCertificate::new("leaf", Some(&second), serves_web), &second, &free]
        .map(|one| one.pem.as_str())
        .concat();
    verify(chain, &root.roots(), now(), &server()).unwrap();
}

#[test]
fn a_leaf_cannot_issue_and_an_authority_cannot_serve() {
    let root = TestCertificate::root();
    let leaf = TestCertificate::new("leaf", Some(&root), |params| {
        serves_web(params);
        params.is_ca = IsCa::ExplicitNoCa;
    });
    let refused = root.rejects(&[&TestCertificate::new("leaf's leaf", Some(&leaf), serves_web), &leaf]);
    assert_eq!(refused, Untrusted::LeafAsAuthority { subject: "CN=leaf".to_owned() });

    let greedy = TestCertificate::new("greedy", Some(&root), |params| {
        serves_web(params);
        authority(Some(0))(params);
    });
    assert_eq!(root.rejects(&[&greedy]), Untrusted::AuthorityAsLeaf { subject: "CN=greedy".to_owned() });
}

#[test]
fn a_name_constraint_is_enforced() {
    let root = TestCertificate::root();
    let intermediate = TestCertificate::new("intermediate", Some(&root), |params| {
        authority(Some(0))(params);
        let permitted_subtrees = vec![GeneralSubtree::DnsName("other.example".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    });
    let refused =
        root.rejects(&[&TestCertificate::new("leaf", Some(&intermediate), serves_web), &intermediate]);
    assert_eq!(refused, Untrusted::Rejected { what: "NameConstraintViolation".to_owned() });
}

#[test]
fn a_renewed_root_and_the_old_one_can_both_be_trusted() {
    let key = KeyPair::generate().unwrap();
    let make = |from: SystemTime, to: SystemTime| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "renewed");
        authority(None)(&mut params);
        (params.not_before, params.not_after) = (from.into(), to.into());
        let pem = params.self_signed(&key).unwrap().pem();
        (params, pem)
    };
    let (_, old) = make(now() - DAY * 9, now() - DAY);
    let (params, new) = make(now() - DAY, now() + DAY * 9);
    let leaf_key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::default();
    serves_web(&mut leaf);
    let leaf = leaf.signed_by(&leaf_key, &Issuer::from_params(&params, &key)).unwrap().pem();
    let check = |roots: String| verify(&leaf, &Roots::from_pem(roots).unwrap(), now(), &server());
    check(format!("{old}{new}")).unwrap();
    check(format!("{new}{old}")).unwrap();
    assert!(matches!(check(old), Err(Untrusted::Expired { .. })));
}
