//! Certificates and keys as files: what is broken is refused with its line, whatever the bytes, and no key is shown.
//!
//! Does not know whom a chain is to be believed for; damaged, it is believed for nobody.

use mesh_pki::{
    Certificate, KeyPem, Names, PemError, PkiError, Purpose, Roots, SpiffeId, Untrusted, Usage, verify,
};
use proptest::prelude::*;

use super::{intermediate, leaf, life, names, now, root, roots, server};

#[test]
fn malformed_pem_is_rejected_with_its_line() {
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
    assert!(matches!(refused(rubbish), PemError::CertificateParseError { line: 1, .. }));
    // What `openssl x509 -text` puts above a certificate does no harm.
    verify(format!("Certificate:\n    Data:\n{chain}"), &roots, now(), &server()).unwrap();
    verify(chain.replace('\n', "\r\n"), &roots, now(), &server()).unwrap();
}

#[test]
fn a_key_file_must_have_exactly_one_unencrypted_key() {
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
fn no_debug_output_shows_a_key() {
    let root = root();
    let root_key = root.key_pem();
    let mut shown = format!("{root:?}");
    let intermediate = root.sign_intermediate("test intermediate", life(30)).unwrap();
    let web = intermediate.issue(&names(), Usage::Both, life(1)).unwrap();
    let roots = roots(&intermediate);
    let credentials = mesh_pki::tls::Credentials::try_from(&web).unwrap();
    let server = mesh_pki::tls::grpc_server(&credentials, Some(&roots));
    let client = mesh_pki::tls::grpc_client(&roots, Some(&credentials));
    let plain = mesh_pki::tls::server(&credentials, None, mesh_pki::tls::Alpn::Any).unwrap();
    shown +=
        &format!("{intermediate:?} {web:#?} {credentials:?} {server:?} {client:?} {plain:?} {root_key:?}");
    let damaged = web.key_pem.expose().replacen('M', "?", 1);
    shown += &format!("{:?}", KeyPem::parse(damaged).unwrap_err());
    shown += &format!("{:?}", KeyPem::parse(&web.key_pem.expose()[..100]).unwrap_err());
    assert!(!shown.contains("PRIVATE KEY--"));
    for key in [&web.key_pem, &root_key] {
        let lines: Vec<_> = key.expose().lines().filter(|line| !line.starts_with('-')).collect();
        // The last line has only a part of the public key, which the certificate shows too.
        let secret = &lines[..lines.len() - 1];
        assert_eq!(secret.len(), 2);
        for line in secret {
            assert!(!shown.contains(line), "{line}");
        }
        // As a list of numbers, which is how a derived Debug shows bytes.
        let bytes = format!("{:?}", lines[0].as_bytes());
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])));
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_parsers_panic(bytes: Vec<u8>) {
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
    fn a_corrupted_chain_never_verifies_and_never_panics(at in 0usize..10_000, byte in 1u8..) {
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
