//! Programs that end by themselves: the keys that they make, their help, and what wrong usage gets.
//!
//! Does not know what a server does once it serves.

use std::os::unix::fs::PermissionsExt;

use super::{BACKEND, CLIENT, SERVER, TOKEN, issue_token, keys, run, text};

#[test]
fn keygen_does_not_overwrite_and_the_private_key_has_mode_0600() {
    let keys = keys();
    let mode = |name: &str| std::fs::metadata(keys.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("signing-key.pem"), mode("public/jwks.json")), (0o600, 0o644));
    let folder = keys.path().to_str().unwrap();
    let before = std::fs::read(keys.path().join("signing-key.pem")).unwrap();
    let again = run(TOKEN, &["keygen", "--out", folder]);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    assert!(text(&again.stderr).contains("--force"), "{again:?}");
    assert_eq!(std::fs::read(keys.path().join("signing-key.pem")).unwrap(), before);
    // Nor half of it.
    std::fs::remove_file(keys.path().join("signing-key.pem")).unwrap();
    assert_eq!(run(TOKEN, &["keygen", "--out", folder]).status.code(), Some(2));
    assert!(!keys.path().join("signing-key.pem").exists());
    let es256 = run(TOKEN, &["keygen", "--out", folder, "--force", "--algorithm", "es256"]);
    assert!(es256.status.success(), "{es256:?}");
    assert!(std::fs::read_to_string(keys.path().join("public/jwks.json")).unwrap().contains("ES256"));
    issue_token(keys.path(), &["--sub", "ana", "--role", "reader"]);
}

#[test]
fn wrong_flags_and_missing_files_end_with_exit_code_2_and_the_next_step() {
    for (program, args, expected) in [
        (SERVER, &["--jwks", "/nowhere/jwks.json"][..], "demo5-token keygen"),
        (SERVER, &["--listen", "nowhere"], "--listen"),
        (SERVER, &["--skew", "100000"], "300"),
        (SERVER, &["healthcheck", "--listen", "127.0.0.1:0"], "port 0"),
        (BACKEND, &["--port", "1"], "--help"),
        (CLIENT, &["--token-file", "/nowhere/token"], "/nowhere/token"),
        (CLIENT, &["--token", "eyJ"], "--help"),
        (TOKEN, &["issue", "--sub", "ana", "--key", "/nowhere/key"], "demo5-token keygen"),
        (TOKEN, &["issue", "--sub", "ana", "--minutes", "0"], "1..=1440"),
        (TOKEN, &[], "Usage"),
    ] {
        let target = if program == CLIENT { &["--target", "127.0.0.1:1"][..] } else { &[] };
        let output = run(program, &[args, target].concat());
        assert_eq!(output.status.code(), Some(2), "{program} {args:?}: {output:?}");
        assert!(text(&output.stderr).contains(expected), "{expected} is not in {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    let keys = keys();
    let jwks = keys.path().join("public/jwks.json");
    let empty = tempfile::tempdir().unwrap();
    let policies = ["--jwks", jwks.to_str().unwrap(), "--policies", empty.path().to_str().unwrap()];
    let output = run(SERVER, &policies);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("*.cedar"), "{output:?}");
    std::fs::write(empty.path().join("x.cedar"), "@id(\"x\")\npermit (principle, action, resource);")
        .unwrap();
    let output = run(SERVER, &policies);
    assert!(text(&output.stderr).contains("x.cedar:2:9"), "{output:?}");
    // A private key where the public ones belong is refused, and not repeated.
    let private = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"AA","d":"c2VjcmV0"}]}"#;
    std::fs::write(&jwks, private).unwrap();
    let output = run(SERVER, &["--jwks", jwks.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        text(&output.stderr).contains("private") && !text(&output.stderr).contains("c2VjcmV0"),
        "{output:?}"
    );
    let key = keys.path().join("signing-key.pem");
    for sub in ["", "a b", "a,b"] {
        let output = run(TOKEN, &["issue", "--key", key.to_str().unwrap(), "--sub", sub]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[test]
fn help_shows_examples_and_the_variables() {
    for (program, words) in [
        (SERVER, &["JWKS", "POLICIES", "LISTEN", "DECISION_LOG", "healthcheck", "Examples:"][..]),
        (BACKEND, &["LISTEN", "healthcheck", "Examples:"]),
        (CLIENT, &["TARGET", "TOKEN_FILE", "Examples:"]),
        (TOKEN, &["keygen", "issue", "Examples:"]),
    ] {
        let help = text(&run(program, &["--help"]).stdout);
        for word in words {
            assert!(help.contains(word), "{word} is not in {help}");
        }
    }
}
