//! A second opinion: what we issue, as openssl reads and verifies it. Does not know how we verify it ourselves.

use std::process::Command;

use mesh_pki::Usage;

use super::{intermediate, life, names};

fn openssl(folder: &std::path::Path, args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(args).current_dir(folder).output();
    let output = output.expect("openssl is needed: apt-get install openssl");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
#[ignore = "needs openssl and curl"]
fn openssl_accepts_and_rejects_the_same_chains() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let write = |name: &str, pem: &str| std::fs::write(here.join(name), pem).unwrap();
    let intermediate = intermediate();
    write("root.pem", &intermediate.root_pem());
    write("intermediate.pem", &intermediate.pem());
    let web = intermediate.issue(&names(), Usage::Both, life(1)).unwrap();
    write("leaf.pem", &web.leaf_pem);
    write("key.pem", web.key_pem.expose());
    let verify = ["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "intermediate.pem"];
    for more in
        [&[][..], &["-purpose", "sslserver", "-verify_hostname", "web.example"], &["-purpose", "sslclient"]]
    {
        let (trusted, output) = openssl(here, &[&verify[..], more, &["leaf.pem"]].concat());
        assert!(trusted, "{output}");
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
    let (fits, output) = openssl(here, &["pkey", "-in", "key.pem", "-check", "-noout"]);
    assert!(fits, "{output}");
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
