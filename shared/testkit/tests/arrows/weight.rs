//! The packages that a crate brings along: how many, and some that it must do without.

use std::collections::BTreeSet;

use mesh_testkit::workspace::{Package, tree};

/// Options of `cargo tree`, and packages that must not be among a crate's normal dependencies then.
const ABSENT: &[(&[&str], &[&str])] = &[
    // Metrics and kernel probes need neither Envoy's API nor RSA.
    (&["-p", "demo1-metrics"], &["envoy-types", "mesh-xds", "rsa"]),
    (&["-p", "demo2-bpf"], &["envoy-types", "mesh-xds", "rsa"]),
    // A library for control planes has no command line.
    (&["-p", "mesh-xds", "--all-features"], &["clap", "rsa"]),
    // Only the program `pki` has one.
    (&["-p", "mesh-pki", "--no-default-features", "--features", "grpc"], &["clap", "comfy-table", "rsa"]),
];

/// Options of `cargo tree`, and the most packages that a crate may bring along then, itself included.
const COUNTS: &[(&[&str], usize)] = &[
    (&["-p", "mesh-xds"], 110),
    (&["-p", "mesh-xds", "--no-default-features"], 97),
    (&["-p", "mesh-pki"], 85),
    (&["-p", "shared"], 125),
];

fn normal(options: &[&str]) -> BTreeSet<Package> {
    let packages = tree(&[options, &["-e", "normal"]].concat()).unwrap();
    assert!(packages.len() > 10, "cargo tree {options:?} shows only {packages:?}");
    packages
}

fn present<'a>(packages: &'a BTreeSet<Package>, absent: &[&str]) -> Vec<&'a str> {
    packages.iter().map(|package| package.name.as_str()).filter(|name| absent.contains(name)).collect()
}

fn excess(options: &[&str], count: usize, allowed: usize) -> Option<String> {
    let command = format!("cargo tree {} -e normal", options.join(" "));
    (count > allowed).then(|| format!("{count} packages, {allowed} are allowed: {command}"))
}

#[test]
fn packages_that_a_crate_must_do_without_are_absent_from_its_graph() {
    for (options, absent) in ABSENT {
        assert_eq!(present(&normal(options), absent), [""; 0], "cargo tree {options:?}");
    }
}

#[test]
fn a_crate_brings_along_no_more_packages_than_it_is_allowed() {
    let over =
        COUNTS.iter().filter_map(|(options, allowed)| excess(options, normal(options).len(), *allowed));
    let over: Vec<String> = over.collect();
    assert!(over.is_empty(), "{}", over.join("\n"));
}

#[test]
fn a_package_that_is_present_is_found_and_one_package_too_many_is_reported() {
    assert_eq!(present(&normal(&["-p", "demo4-lb"]), &["envoy-types", "rsa"]), ["envoy-types"]);
    assert_eq!(excess(&["-p", "a"], 10, 10), None);
    let found = excess(&["-p", "a"], 11, 10).unwrap();
    assert_eq!(found, "11 packages, 10 are allowed: cargo tree -p a -e normal");
}
