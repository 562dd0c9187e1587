//! Which packages this workspace may contain: none that is banned, none with another licence, none twice
//! without a reason. Everything that is compiled counts, for tests and build scripts too.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

mod license;

use std::collections::{BTreeMap, BTreeSet};

use mesh_testkit::workspace::{Package, tree};

/// Packages that must not be in the graph: name, version prefix (empty for all), reason.
const BANNED: &[(&str, &str, &str)] = &[
    ("rsa", "", "RUSTSEC-2023-0071: timing reveals the private key. The demos use P-256 and Ed25519"),
    ("openssl-sys", "", "needs a C library and its headers. TLS is rustls with ring"),
    ("native-tls", "", "is OpenSSL on Linux. TLS is rustls with ring"),
    ("aws-lc-sys", "", "is a second crypto library beside ring, and a long C build"),
    ("time", "0.1.", "RUSTSEC-2020-0071: reads the environment while other threads may write it"),
    ("atty", "", "RUSTSEC-2024-0375: not maintained. Use std::io::IsTerminal"),
    ("protobuf", "", "is a second protobuf library beside prost"),
    ("serde_yaml", "", "is not maintained. YAML is read by serde-saphyr"),
    ("reqwest", "", "is a second HTTP client beside hyper, with its own TLS and pool settings"),
    ("async-std", "", "RUSTSEC-2025-0052: discontinued, and a second runtime beside tokio"),
    ("etcd-client", "", "its build needs protoc. Protobuf files are compiled by protox"),
    ("md5", "", "is not collision resistant"),
    ("sha1", "", "is not collision resistant"),
];

/// Licences that permit use in this MIT project without asking for more than a notice.
const LICENSES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Packages in several versions: name, number of versions, reason. Each goes away with an update of another package.
const DUPLICATES: &[(&str, usize, &str)] = &[
    ("base64", 2, "tonic, bollard, jsonwebtoken and prost-reflect use 0.22; pem uses 0.23"),
    ("bit-set", 2, "lalrpop (cedar-policy's parser generator) uses 0.8, proptest 0.11"),
    ("bit-vec", 2, "as bit-set"),
    ("cpufeatures", 2, "ed25519-dalek's curve25519-dalek and sha2 use 0.2; chacha20 (rand 0.10) uses 0.3"),
    ("foldhash", 2, "hashbrown 0.15 uses 0.1, serde_json 0.2"),
    ("getrandom", 3, "ring and rand_core 0.6 use 0.2, ahash 0.3, tempfile, zip and rand 0.10 use 0.4"),
    ("hashbrown", 4, "schnellru uses 0.13, dashmap (tonic-xds) 0.14, petgraph 0.15, indexmap 0.17"),
    ("itertools", 2, "lalrpop and prost-build use 0.14, cedar-policy and prost-derive 0.15"),
    ("petgraph", 2, "lalrpop uses 0.7, prost-build 0.8"),
    ("rand", 2, "backoff (tonic-xds) uses 0.8, proptest and xds-client 0.10"),
    ("rand_core", 2, "as rand"),
    ("syn", 2, "prost, tonic and tracing derive with 2, serde, tokio, clap and thiserror with 3"),
    ("synstructure", 2, "as syn: asn1-rs (x509-parser) uses 0.13, ICU (url) 0.14"),
    ("unicode-width", 2, "miette uses 0.1, comfy-table, console and indicatif 0.2"),
];

fn banned(packages: &BTreeSet<Package>, bans: &[(&str, &str, &str)]) -> Vec<String> {
    let of = |package: &Package| {
        let ban = bans
            .iter()
            .find(|(name, prefix, _)| *name == package.name && package.version.starts_with(prefix));
        ban.map(|(_, _, reason)| format!("{} {} {reason}", package.name, package.version))
    };
    packages.iter().filter_map(of).collect()
}

fn unlicensed(packages: &BTreeSet<Package>, allowed: &[&str]) -> Vec<String> {
    let of = |package: &Package| {
        let why = match license::is_met(&package.license, allowed) {
            Ok(true) => return None,
            Ok(false) => format!("its licence {:?} is not in LICENSES", package.license),
            Err(why) => why,
        };
        Some(format!("{} {}: {why}", package.name, package.version))
    };
    packages.iter().filter_map(of).collect()
}

fn duplicate(packages: &BTreeSet<Package>, listed: &[(&str, usize, &str)]) -> Vec<String> {
    let mut versions = BTreeMap::<&str, BTreeSet<&str>>::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let mut found = Vec::new();
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let count = versions.len();
        match listed.iter().find(|(listed, _, _)| listed == name) {
            None => found.push(format!("{name} is not in DUPLICATES, and here as {versions:?}")),
            Some((_, expected, _)) if *expected != count => {
                found.push(format!(
                    "{name} has {expected} versions in DUPLICATES, {count} here: {versions:?}"
                ));
            }
            Some(_) => {}
        }
    }
    for (name, _, _) in listed {
        if versions.get(name).is_none_or(|versions| versions.len() < 2) {
            found.push(format!("{name} is no longer a duplicate: remove it from DUPLICATES"));
        }
    }
    found
}

/// Returns every package that building and testing this workspace compiles.
fn compiled() -> BTreeSet<Package> {
    let packages = tree(&["--workspace", "-e", "normal,build,dev"]).unwrap();
    assert!(packages.len() > 200, "cargo tree shows only {} packages", packages.len());
    packages
}

#[test]
fn no_banned_package_is_compiled() {
    let found = banned(&compiled(), BANNED);
    assert!(found.is_empty(), "{}\nSee `cargo tree -i NAME` for what needs it", found.join("\n"));
}

#[test]
fn every_package_has_a_licence_that_is_allowed() {
    let found = unlicensed(&compiled(), LICENSES);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_package_in_several_versions_is_listed_with_its_reason() {
    let found = duplicate(&compiled(), DUPLICATES);
    assert!(found.is_empty(), "{}\nSee `cargo tree -i NAME@VERSION`", found.join("\n"));
}

fn sample(packages: &[(&str, &str, &str)]) -> BTreeSet<Package> {
    let package = |(name, version, license): &(&str, &str, &str)| Package {
        name: (*name).to_owned(),
        version: (*version).to_owned(),
        license: (*license).to_owned(),
    };
    packages.iter().map(package).collect()
}

#[test]
fn a_banned_package_is_reported_with_the_reason() {
    let packages = sample(&[("time", "0.1.45", "MIT"), ("time", "0.3.55", "MIT"), ("rsa", "0.9.10", "MIT")]);
    let bans = [("time", "0.1.", "reads the environment"), ("rsa", "", "leaks")];
    assert_eq!(banned(&packages, &bans), ["rsa 0.9.10 leaks", "time 0.1.45 reads the environment"]);
}

#[test]
fn a_licence_that_is_not_allowed_or_missing_is_reported() {
    let packages = sample(&[("a", "1", "GPL-3.0-only OR MIT"), ("b", "1", "MPL-2.0"), ("c", "1", "")]);
    let found = unlicensed(&packages, &["MIT"]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("b 1: "), "{found:?}");
}

#[test]
fn an_unlisted_duplicate_and_a_listed_one_that_is_gone_are_reported() {
    let packages = sample(&[("a", "1", ""), ("a", "2", ""), ("b", "1", ""), ("c", "1", ""), ("c", "2", "")]);
    assert_eq!(duplicate(&packages, &[("a", 2, ""), ("c", 2, "")]), [""; 0]);
    let found = duplicate(&packages, &[("b", 2, ""), ("c", 3, "")]);
    assert_eq!(found.len(), 3, "{found:?}");
}
