#![expect(clippy::unwrap_used, reason = "a test may panic")]
//! The chain of trust: what is issued is believed, and what is wrong is refused with its reason.

use std::process::Command;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use shared::pki::{
    BadName, Certificate, Intermediate, Issued, KeyKind, KeyPem, Names, PemError, PkiError, Purpose, Root,
    Roots, SpiffeId, Untrusted, Usage, Validity, verify,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const WEB: &str = "spiffe://mesh/ns/demo/sa/web";

fn life(days: u32) -> Validity {
    Validity::from_now(DAY * days).unwrap()
}

fn root() -> Root {
    Root::generate("test root", life(300), KeyKind::default()).unwrap()
}

fn intermediate() -> Intermediate {
    root().sign_intermediate("test intermediate", life(30)).unwrap()
}

fn names() -> Names {
    Names::default().dns("web.example").unwrap().ip([127, 0, 0, 1]).spiffe(WEB).unwrap()
}

fn leaf(from: &Intermediate, usage: Usage) -> Issued {
    from.issue(&names(), usage, life(1), KeyKind::default()).unwrap()
}

fn roots(of: &Intermediate) -> Roots {
    Roots::from_pem(of.root_pem()).unwrap()
}

fn server() -> Purpose {
    Purpose::server("web.example").unwrap()
}

fn now() -> SystemTime {
    SystemTime::now()
}

#[test]
fn a_leaf_is_trusted_and_says_whom_it_speaks_for() {
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
    let intermediate = intermediate();
    let web = intermediate.issue(&names(), Usage::Both, life(1), KeyKind::Rsa2048).unwrap();
    verify(&web.chain_pem, &roots(&intermediate), now(), &server()).unwrap();
    let leaf = &Certificate::read_pem(&web.leaf_pem).unwrap()[0];
    assert_eq!(leaf.key(), KeyKind::Rsa2048.to_string());
    assert_eq!(leaf.key_usages().unwrap(), ["digital signature", "key encipherment"]);
    KeyPem::parse(web.key_pem.expose()).unwrap();
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let intermediate = intermediate();
    let names = Names::default().dns("*.example.org").unwrap();
    let web = intermediate.issue(&names, Usage::Server, life(1), KeyKind::default()).unwrap();
    let ask = |host| verify(&web.chain_pem, &roots(&intermediate), now(), &Purpose::server(host).unwrap());
    ask("a.example.org").unwrap();
    assert!(matches!(ask("a.b.example.org"), Err(Untrusted::WrongHost { .. })));
    assert!(matches!(ask("example.org"), Err(Untrusted::WrongHost { .. })));
}

#[test]
fn what_is_written_is_what_was_asked_for() {
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

/// Certificates that our own types refuse to make.
struct Rogue {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Rogue {
    /// `change` says what is wrong with it; without an issuer it vouches for itself.
    fn new(name: &str, issuer: Option<&Rogue>, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = (now() - DAY).into();
        params.not_after = (now() + DAY).into();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = match issuer {
            None => params.self_signed(&key).unwrap(),
            Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap(),
        };
        Self { pem: made.pem(), params, key }
    }

    fn root() -> Self {
        Self::new("rogue root", None, authority(None))
    }

    fn roots(&self) -> Roots {
        Roots::from_pem(&self.pem).unwrap()
    }

    /// Verifies `chain` against this root, for the server web.example.
    fn refuses(&self, chain: &[&Rogue]) -> Untrusted {
        let chain: String = chain.iter().map(|one| one.pem.as_str()).collect();
        verify(chain, &self.roots(), now(), &server()).unwrap_err()
    }
}

fn authority(path_length: Option<u8>) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.is_ca =
            IsCa::Ca(path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    }
}

fn serves_web(params: &mut CertificateParams) {
    params.subject_alt_names = vec![SanType::DnsName("web.example".try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

#[test]
fn an_expired_leaf_intermediate_or_root_is_named_with_its_date() {
    let old = |params: &mut CertificateParams| params.not_after = (now() - DAY / 2).into();
    let root = Rogue::root();
    let good = Rogue::new("good intermediate", Some(&root), authority(Some(0)));
    let stale = Rogue::new("stale intermediate", Some(&root), |params| {
        authority(Some(0))(params);
        old(params);
    });
    let stale_root = Rogue::new("stale root", None, |params| {
        authority(None)(params);
        old(params);
    });
    let leaf = |name, issuer| Rogue::new(name, Some(issuer), serves_web);
    let stale_leaf = Rogue::new("stale leaf", Some(&good), |params| {
        serves_web(params);
        old(params);
    });
    for (refused, whose) in [
        (root.refuses(&[&stale_leaf, &good]), "stale leaf"),
        (root.refuses(&[&leaf("leaf", &stale), &stale]), "stale intermediate"),
        (stale_root.refuses(&[&leaf("leaf", &stale_root)]), "stale root"),
    ] {
        let Untrusted::Expired { subject, not_after } = &refused else { panic!("{whose}: {refused}") };
        assert!(subject.contains(whose), "{refused}");
        assert!(*not_after < now() && *not_after > now() - DAY, "{refused}");
        assert!(refused.to_string().contains(" UTC: issue a new one"), "{refused}");
    }
}

#[test]
fn a_certificate_from_the_future_is_refused_with_its_date() {
    let intermediate = intermediate();
    let later = Validity::between(now() + DAY, now() + DAY * 2).unwrap();
    let web = intermediate.issue(&names(), Usage::Both, later, KeyKind::default()).unwrap();
    let refused = verify(&web.chain_pem, &roots(&intermediate), now(), &server()).unwrap_err();
    let Untrusted::NotYetValid { subject, not_before } = &refused else { panic!("{refused}") };
    assert!(subject.contains("web.example"));
    assert_eq!(*not_before, later.not_before());
    assert!(refused.to_string().contains("clocks"), "{refused}");
    verify(&web.chain_pem, &roots(&intermediate), now() + DAY * 2 - DAY / 2, &server()).unwrap();

    let future_root = Rogue::new("future root", None, |params| {
        authority(None)(params);
        params.not_before = (now() + DAY / 2).into();
    });
    let refused = future_root.refuses(&[&Rogue::new("leaf", Some(&future_root), serves_web)]);
    assert!(
        matches!(&refused, Untrusted::NotYetValid { subject, .. } if subject.contains("future root")),
        "{refused}"
    );
}

#[test]
fn the_wrong_host_is_told_the_names_that_are_there() {
    let intermediate = intermediate();
    let web = leaf(&intermediate, Usage::Both);
    for asked in ["api.example", "10.0.0.1"] {
        let refused = verify(&web.chain_pem, &roots(&intermediate), now(), &Purpose::server(asked).unwrap());
        let names = format!("web.example, 127.0.0.1, {WEB}");
        assert_eq!(refused, Err(Untrusted::WrongHost { asked: asked.to_owned(), names }));
    }
    // A SPIFFE ID is no host name, and a certificate with nothing else serves no host.
    let only = Names::default().spiffe(WEB).unwrap();
    let only = intermediate.issue(&only, Usage::Both, life(1), KeyKind::default()).unwrap();
    verify(&only.chain_pem, &roots(&intermediate), now(), &Purpose::Client).unwrap();
    let refused = verify(&only.chain_pem, &roots(&intermediate), now(), &server());
    assert!(matches!(refused, Err(Untrusted::WrongHost { .. })));
}

#[test]
fn a_server_is_no_client_and_a_client_no_server() {
    let intermediate = intermediate();
    let roots = roots(&intermediate);
    let check =
        |usage, purpose: &Purpose| verify(leaf(&intermediate, usage).chain_pem, &roots, now(), purpose);
    check(Usage::Server, &server()).unwrap();
    check(Usage::Client, &Purpose::Client).unwrap();
    for (usage, purpose, needs_, has_) in
        [(Usage::Server, Purpose::Client, "client", "server"), (Usage::Client, server(), "server", "client")]
    {
        let Err(Untrusted::WrongUsage { subject, needs, has }) = check(usage, &purpose) else {
            panic!("{usage}")
        };
        assert_eq!((needs, has.as_str()), (needs_, has_));
        assert!(subject.contains("web.example"));
    }
}

#[test]
fn a_use_that_is_not_stated_is_not_granted() {
    let root = Rogue::root();
    let says_nothing = Rogue::new("leaf", Some(&root), |params| {
        serves_web(params);
        params.extended_key_usages.clear();
    });
    let refused = root.refuses(&[&says_nothing]);
    assert!(matches!(&refused, Untrusted::WrongUsage { needs: "server", .. }), "{refused}");

    let signs_nothing = Rogue::new("leaf", Some(&root), |params| {
        serves_web(params);
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    });
    let refused = root.refuses(&[&signs_nothing]);
    assert!(matches!(&refused, Untrusted::WrongUsage { needs: "digital signature", .. }), "{refused}");

    let no_signer = Rogue::new("intermediate", Some(&root), |params| {
        authority(Some(0))(params);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
    });
    let refused = root.refuses(&[&Rogue::new("leaf", Some(&no_signer), serves_web), &no_signer]);
    assert!(matches!(&refused, Untrusted::WrongUsage { needs: "key cert sign", .. }), "{refused}");
}

#[test]
fn a_stranger_s_chain_and_a_chain_with_a_gap_name_the_issuer() {
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
    Root::generate(root, life(300), KeyKind::default()).unwrap().sign_intermediate(&name, life(30)).unwrap()
}

#[test]
fn a_name_is_no_proof_without_the_key() {
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
fn an_intermediate_cannot_make_another_authority() {
    let root = Rogue::root();
    let intermediate = Rogue::new("intermediate", Some(&root), authority(Some(0)));
    let second = Rogue::new("second", Some(&intermediate), authority(Some(0)));
    let refused = root.refuses(&[&Rogue::new("leaf", Some(&second), serves_web), &second, &intermediate]);
    let expected = Untrusted::PathTooLong { authority: "CN=intermediate".to_owned(), limit: 0 };
    assert_eq!(refused, expected);
    // Without the limit it could.
    let free = Rogue::new("intermediate", Some(&root), authority(None));
    let second = Rogue::new("second", Some(&free), authority(Some(0)));
    let chain =
        [&Rogue::new("leaf", Some(&second), serves_web), &second, &free].map(|one| one.pem.as_str()).concat();
    verify(chain, &root.roots(), now(), &server()).unwrap();
}

#[test]
fn a_leaf_issues_nothing_and_an_authority_serves_nothing() {
    let root = Rogue::root();
    let leaf = Rogue::new("leaf", Some(&root), |params| {
        serves_web(params);
        params.is_ca = IsCa::ExplicitNoCa;
    });
    let refused = root.refuses(&[&Rogue::new("leaf's leaf", Some(&leaf), serves_web), &leaf]);
    assert_eq!(refused, Untrusted::LeafAsAuthority { subject: "CN=leaf".to_owned() });

    let greedy = Rogue::new("greedy", Some(&root), |params| {
        serves_web(params);
        authority(Some(0))(params);
    });
    assert_eq!(root.refuses(&[&greedy]), Untrusted::AuthorityAsLeaf { subject: "CN=greedy".to_owned() });
}

#[test]
fn a_name_constraint_is_kept() {
    let root = Rogue::root();
    let intermediate = Rogue::new("intermediate", Some(&root), |params| {
        authority(Some(0))(params);
        let permitted_subtrees = vec![GeneralSubtree::DnsName("other.example".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    });
    let refused = root.refuses(&[&Rogue::new("leaf", Some(&intermediate), serves_web), &intermediate]);
    assert_eq!(refused, Untrusted::Refused { what: "NameConstraintViolation".to_owned() });
}

#[test]
fn two_spiffe_ids_are_none() {
    let root = Rogue::root();
    let uri = |id: &str| SanType::URI(id.try_into().unwrap());
    let leaf = |ids: &[&str]| {
        Rogue::new("leaf", Some(&root), |params| {
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
        let refused = root.refuses(&[&leaf(ids)]);
        let malformed = matches!(&refused, Untrusted::Malformed(PemError::NotACertificate { line: 1, why }) if why.contains("SPIFFE"));
        assert!(malformed, "{ids:?}: {refused}");
    }
    verify(leaf(&["https://mesh"]).pem, &root.roots(), now(), &server()).unwrap();
}

#[test]
fn a_renewed_root_may_lie_beside_the_old_one() {
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

#[test]
fn broken_pem_is_refused_with_its_line() {
    let intermediate = intermediate();
    let web = leaf(&intermediate, Usage::Both);
    let roots = roots(&intermediate);
    let chain = web.chain_pem.as_str();
    let refused = |pem: &str| match verify(pem, &roots, now(), &server()).unwrap_err() {
        Untrusted::Malformed(why) => why,
        other => panic!("{other}"),
    };
    let leaf_lines = web.leaf_pem.lines().count();
    let wanted = "CERTIFICATE";
    let label = || wanted.to_owned();
    assert_eq!(refused(""), PemError::Empty { wanted });
    assert_eq!(refused("no PEM\n"), PemError::Empty { wanted });
    let cut = &chain[..chain.len() - 60];
    assert_eq!(refused(cut), PemError::Truncated { line: leaf_lines + 1, label: label() });
    let no_end = web.leaf_pem.replace("-----END CERTIFICATE-----\n", "") + &intermediate.pem();
    assert_eq!(refused(&no_end), PemError::Truncated { line: 1, label: label() });
    let no_begin = web.leaf_pem.replace("-----BEGIN CERTIFICATE-----\n", "");
    assert_eq!(refused(&no_begin), PemError::StrayEnd { line: leaf_lines - 1, label: label() });
    let other_label = chain.replacen("CERTIFICATE", "X509 CRL", 1).replacen("CERTIFICATE", "X509 CRL", 1);
    assert_eq!(refused(&other_label), PemError::WrongLabel { line: 1, found: "X509 CRL".to_owned(), wanted });
    let with_key = format!("{chain}{}", web.key_pem.expose());
    let line = chain.lines().count() + 1;
    assert_eq!(refused(&with_key), PemError::WrongLabel { line, found: "PRIVATE KEY".to_owned(), wanted });
    let not_base64 = chain.replacen('M', "?", 1);
    assert_eq!(refused(&not_base64), PemError::NotBase64 { line: 1, label: label() });
    let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(refused(rubbish), PemError::NotACertificate { line: 1, .. }));
    // What `openssl x509 -text` puts above a certificate does no harm.
    verify(format!("Certificate:\n    Data:\n{chain}"), &roots, now(), &server()).unwrap();
    verify(chain.replace('\n', "\r\n"), &roots, now(), &server()).unwrap();
}

#[test]
fn a_key_file_has_one_key_that_is_not_encrypted() {
    let web = leaf(&intermediate(), Usage::Both);
    let pem = web.key_pem.expose();
    let refused = |pem: &str| match KeyPem::parse(pem) {
        Err(error) => error,
        Ok(_) => panic!("taken"),
    };
    let key_error = |pem: &str| match refused(pem) {
        PkiError::Key(why) => why,
        other => panic!("{other}"),
    };
    assert_eq!(KeyPem::parse(format!("a comment\n{pem}")).unwrap().expose(), pem);
    assert!(matches!(key_error(&format!("{pem}{pem}")), PemError::Second { line: 6, .. }));
    assert!(matches!(key_error(&pem[..80]), PemError::Truncated { line: 1, .. }));
    assert!(matches!(key_error(&web.leaf_pem), PemError::WrongLabel { wanted: "PRIVATE KEY", .. }));
    let encrypted = pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert_eq!(key_error(&encrypted), PemError::Encrypted { line: 1 });
    let rubbish = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(matches!(refused(rubbish), PkiError::KeyRefused));
}

#[test]
fn nothing_outlives_its_issuer_and_nothing_is_issued_to_nobody() {
    let too_long = root().sign_intermediate("intermediate", life(301)).unwrap_err();
    assert!(
        matches!(&too_long, PkiError::OutlivesIssuer { issuer, .. } if issuer.contains("test root")),
        "{too_long}"
    );
    let intermediate = intermediate();
    let too_long = intermediate.issue(&names(), Usage::Both, life(31), KeyKind::default()).unwrap_err();
    assert!(too_long.to_string().contains("choose a shorter life"), "{too_long}");
    let nobody = intermediate.issue(&Names::default(), Usage::Both, life(1), KeyKind::default());
    assert!(matches!(nobody, Err(PkiError::NoNames)));
    let backwards = Validity::between(now(), now() - DAY);
    assert!(matches!(backwards, Err(PkiError::BadValidity { .. })));
    for name in ["", "a\nb", &"x".repeat(65)] {
        let refused = Root::generate(name, life(1), KeyKind::default());
        assert!(matches!(refused, Err(PkiError::AuthorityName)), "{name:?}");
    }
}

#[test]
fn only_names_that_mean_something_are_taken() {
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

#[test]
fn no_debug_output_shows_a_key() {
    let root = root();
    let root_key = root.key_pem();
    let mut shown = format!("{root:?}");
    let intermediate = root.sign_intermediate("test intermediate", life(30)).unwrap();
    let web = intermediate.issue(&names(), Usage::Both, life(1), KeyKind::Rsa2048).unwrap();
    let roots = roots(&intermediate);
    let credentials = shared::tls::Credentials::try_from(&web).unwrap();
    let server = shared::tls::grpc_server(&credentials, Some(&roots));
    let client = shared::tls::grpc_client(&roots, Some(&credentials));
    let plain = shared::tls::server(&credentials, None, shared::tls::Alpn::Any).unwrap();
    shown +=
        &format!("{intermediate:?} {web:#?} {credentials:?} {server:?} {client:?} {plain:?} {root_key:?}");
    let damaged = web.key_pem.expose().replacen('M', "?", 1);
    shown += &format!("{:?}", KeyPem::parse(damaged).unwrap_err());
    shown += &format!("{:?}", KeyPem::parse(&web.key_pem.expose()[..900]).unwrap_err());
    assert!(!shown.contains("PRIVATE KEY--"));
    for key in [&web.key_pem, &root_key] {
        let lines: Vec<_> = key.expose().lines().filter(|line| !line.starts_with('-')).collect();
        for line in &lines {
            // The first line of a key's DER says its kind, as every key's does.
            assert!(!shown.contains(line), "{line}");
        }
        // As a list of numbers, which is how a derived Debug shows bytes.
        let bytes = format!("{:?}", lines[0].as_bytes());
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])));
    }
}

fn openssl(folder: &std::path::Path, args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(args).current_dir(folder).output();
    let output = output.expect("openssl is needed: apt-get install openssl");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
#[ignore = "needs openssl and curl"]
fn openssl_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let write = |name: &str, pem: &str| std::fs::write(here.join(name), pem).unwrap();
    let intermediate = intermediate();
    write("root.pem", &intermediate.root_pem());
    write("intermediate.pem", &intermediate.pem());
    for kind in [KeyKind::EcdsaP256, KeyKind::Rsa2048] {
        let web = intermediate.issue(&names(), Usage::Both, life(1), kind).unwrap();
        write("leaf.pem", &web.leaf_pem);
        write("key.pem", web.key_pem.expose());
        let verify = ["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "intermediate.pem"];
        for more in [
            &[][..],
            &["-purpose", "sslserver", "-verify_hostname", "web.example"],
            &["-purpose", "sslclient"],
        ] {
            let (trusted, said) = openssl(here, &[&verify[..], more, &["leaf.pem"]].concat());
            assert!(trusted, "{said}");
        }
        let (_, text) = openssl(here, &["x509", "-in", "leaf.pem", "-noout", "-text"]);
        for line in [
            "TLS Web Server Authentication, TLS Web Client Authentication",
            "Digital Signature",
            "CA:FALSE",
            "DNS:web.example, IP Address:127.0.0.1, URI:spiffe://mesh/ns/demo/sa/web",
            "X509v3 Subject Key Identifier",
            "X509v3 Authority Key Identifier",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let (_, serial) = openssl(here, &["x509", "-in", "leaf.pem", "-noout", "-serial"]);
        assert_eq!(
            serial.trim().trim_start_matches("serial=").trim_start_matches('0'),
            web.serial.to_string().trim_start_matches('0')
        );
        let (fits, said) = openssl(here, &["pkey", "-in", "key.pem", "-check", "-noout"]);
        assert!(fits, "{said}");
    }
    let key_id = |file, extension| {
        openssl(here, &["x509", "-in", file, "-noout", "-ext", extension])
            .1
            .lines()
            .last()
            .map(|line| line.trim().to_owned())
    };
    assert_eq!(
        key_id("leaf.pem", "authorityKeyIdentifier"),
        key_id("intermediate.pem", "subjectKeyIdentifier")
    );
    assert_eq!(
        key_id("intermediate.pem", "authorityKeyIdentifier"),
        key_id("root.pem", "subjectKeyIdentifier")
    );
    let (_, text) = openssl(here, &["x509", "-in", "intermediate.pem", "-noout", "-text"]);
    assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("Certificate Sign, CRL Sign"), "{text}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes: Vec<u8>) {
        let armoured = |label: &str| pem::encode(&pem::Pem::new(label, bytes.clone()));
        prop_assert!(Certificate::read_pem(armoured("CERTIFICATE")).is_err());
        prop_assert!(KeyPem::parse(armoured("PRIVATE KEY")).is_err());
        _ = Certificate::read_pem(&bytes);
        _ = KeyPem::parse(&bytes);
        _ = Roots::from_pem(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        _ = SpiffeId::parse(&text);
        _ = Names::default().dns(&text);
        _ = Purpose::server(&text);
    }

    #[test]
    fn no_damage_to_a_chain_makes_verify_panic_or_say_yes(at in 0usize..10_000, byte in 1u8..) {
        // One chain for all cases: making one takes longer than a case.
        static CHAIN: std::sync::LazyLock<(Vec<Vec<u8>>, Roots)> = std::sync::LazyLock::new(|| {
            let intermediate = intermediate();
            let chain = leaf(&intermediate, Usage::Both).chain_pem;
            let der = pem::parse_many(chain).unwrap().into_iter().map(pem::Pem::into_contents).collect();
            (der, roots(&intermediate))
        });
        let (chain, roots) = &*CHAIN;
        let mut chain = chain.clone();
        let length = chain[0].len() + chain[1].len();
        let at = at % length;
        let first = chain[0].len();
        let damaged = if at < first { &mut chain[0][at] } else { &mut chain[1][at - first] };
        *damaged ^= byte;
        let chain: String = chain.into_iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der))).collect();
        prop_assert!(verify(chain, roots, now(), &server()).is_err());
    }
}
