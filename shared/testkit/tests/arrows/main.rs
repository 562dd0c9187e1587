//! Which crate of this workspace may depend on which, and what else a crate brings along.
//!
//! A part of this workspace is meant to be used elsewhere with the dependencies that it needs and no more.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

mod weight;

use std::collections::BTreeSet;

use mesh_testkit::workspace::{Dependency, Member, members};

/// What one crate may depend on, of the crates of this workspace.
struct Rule {
    krate: &'static str,
    /// Always.
    normal: &'static [&'static str],
    /// Only while this feature is on: `(feature, crate)`.
    optional: &'static [(&'static str, &'static str)],
    /// Only in its tests and benchmarks.
    dev: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule { krate: "mesh-net", normal: &[], optional: &[], dev: &["mesh-net"] },
    Rule { krate: "shared", normal: &["mesh-net"], optional: &[("tls", "mesh-pki")], dev: &["mesh-testkit"] },
    Rule {
        krate: "mesh-xds",
        normal: &["mesh-net"],
        optional: &[],
        dev: &["mesh-pki", "mesh-testkit", "shared"],
    },
    Rule { krate: "mesh-pki", normal: &[], optional: &[], dev: &["mesh-pki", "mesh-testkit", "shared"] },
    Rule { krate: "mesh-xds-server", normal: &["mesh-xds", "shared"], optional: &[], dev: &["mesh-testkit"] },
    Rule {
        krate: "mesh-lab",
        normal: &["shared"],
        optional: &[("exercises", "mesh-pki")],
        dev: &["mesh-testkit"],
    },
    Rule {
        krate: "mesh-lab-xds",
        normal: &["mesh-lab", "mesh-xds", "shared"],
        optional: &[],
        dev: &["mesh-testkit"],
    },
    Rule { krate: "mesh-features", normal: &[], optional: &[], dev: &[] },
    Rule { krate: "mesh-testkit", normal: &["shared"], optional: &[], dev: &[] },
    Rule {
        krate: "demo1-metrics",
        normal: &["mesh-features", "mesh-lab", "shared"],
        optional: &[],
        dev: &["mesh-testkit"],
    },
    Rule {
        krate: "demo2-bpf",
        normal: &["mesh-features", "mesh-lab", "shared"],
        optional: &[],
        dev: &["mesh-testkit"],
    },
    Rule {
        krate: "demo3-dynamic",
        normal: &[
            "mesh-features",
            "mesh-lab",
            "mesh-lab-xds",
            "mesh-pki",
            "mesh-xds",
            "mesh-xds-server",
            "shared",
        ],
        optional: &[],
        dev: &["mesh-testkit"],
    },
    Rule {
        krate: "demo4-lb",
        normal: &["mesh-features", "mesh-lab", "mesh-lab-xds", "mesh-net", "mesh-xds", "shared"],
        optional: &[],
        dev: &["mesh-testkit"],
    },
    Rule {
        krate: "demo5-authz",
        normal: &["mesh-features", "mesh-lab", "mesh-net", "mesh-pki", "shared"],
        optional: &[],
        dev: &["mesh-testkit"],
    },
];

/// Returns one line for each dependency that no rule allows, and for each crate and rule without a counterpart.
fn violations(members: &[Member], rules: &[Rule]) -> Vec<String> {
    let ours: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let mut found = Vec::new();
    for rule in rules.iter().filter(|rule| !ours.contains(rule.krate)) {
        found.push(format!("{} has a rule, but is not a crate of this workspace", rule.krate));
    }
    for member in members {
        let Some(rule) = rules.iter().find(|rule| rule.krate == member.name) else {
            found.push(format!("{} has no rule: add it to RULES", member.name));
            continue;
        };
        for dependency in member.dependencies.iter().filter(|to| ours.contains(to.name.as_str())) {
            if let Some(reason) = refusal(member, dependency, rule) {
                found.push(format!("{} must not depend on {}: {reason}", member.name, dependency.name));
            }
        }
    }
    found
}

/// Returns why the rule does not allow the dependency.
fn refusal(from: &Member, to: &Dependency, rule: &Rule) -> Option<String> {
    let name = to.name.as_str();
    if to.kind.as_deref() == Some("dev") {
        return (!rule.dev.contains(&name)).then(|| "RULES has no such dev-dependency".to_owned());
    }
    if rule.normal.contains(&name) {
        return None;
    }
    let Some((feature, _)) = rule.optional.iter().find(|(_, optional)| *optional == name) else {
        return Some("RULES has no such dependency".to_owned());
    };
    if !to.optional {
        return Some(format!("it is optional, behind the feature `{feature}`, and must remain so"));
    }
    let switch = format!("dep:{name}");
    let enabling = from.features.iter().filter(|(_, enables)| enables.contains(&switch));
    let others: Vec<&str> = enabling.map(|(name, _)| name.as_str()).filter(|name| name != feature).collect();
    (!others.is_empty()).then(|| format!("only the feature `{feature}` may enable it, not {others:?}"))
}

#[test]
fn crates_of_this_workspace_depend_only_on_crates_that_their_rule_names() {
    let found = violations(&members().unwrap(), RULES);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A crate that depends on one other, and whose features both enable it.
fn sample(kind: Option<&str>, optional: bool, features: &[&str]) -> Vec<Member> {
    let member = |name: &str| Member {
        name: name.to_owned(),
        manifest_path: "Cargo.toml".into(),
        targets: Vec::new(),
        dependencies: Vec::new(),
        features: Default::default(),
    };
    let mut from = member("from");
    let kind = kind.map(str::to_owned);
    from.dependencies.push(Dependency { name: "to".to_owned(), kind, optional });
    let enables = |feature: &&str| ((*feature).to_owned(), vec!["dep:to".to_owned()]);
    from.features = features.iter().map(enables).collect();
    vec![from, member("to")]
}

#[test]
fn a_dependency_without_a_rule_is_reported() {
    let to = || Rule { krate: "to", normal: &[], optional: &[], dev: &[] };
    let dev = || [Rule { krate: "from", normal: &[], optional: &[], dev: &["to"] }, to()];
    assert_eq!(violations(&sample(Some("dev"), false, &[]), &dev()), [""; 0]);
    assert_eq!(violations(&sample(None, false, &[]), &dev()).len(), 1);
    assert_eq!(violations(&sample(Some("build"), false, &[]), &dev()).len(), 1);

    let normal = || [Rule { krate: "from", normal: &["to"], optional: &[], dev: &[] }, to()];
    assert_eq!(violations(&sample(None, false, &[]), &normal()), [""; 0]);
    assert_eq!(violations(&sample(Some("dev"), false, &[]), &normal()).len(), 1);
}

#[test]
fn an_optional_dependency_that_another_feature_enables_is_reported() {
    let to = Rule { krate: "to", normal: &[], optional: &[], dev: &[] };
    let rules = [Rule { krate: "from", normal: &[], optional: &[("tls", "to")], dev: &[] }, to];
    assert_eq!(violations(&sample(None, true, &["tls"]), &rules), [""; 0]);
    assert_eq!(violations(&sample(None, false, &["tls"]), &rules).len(), 1);
    let found = violations(&sample(None, true, &["tls", "grpc"]), &rules);
    assert!(found[0].contains("[\"grpc\"]"), "{found:?}");
}

#[test]
fn a_crate_without_a_rule_and_a_rule_without_a_crate_are_reported() {
    let rule = [Rule { krate: "gone", normal: &[], optional: &[], dev: &[] }];
    let found = violations(&sample(None, false, &[]), &rule);
    assert_eq!(found.len(), 3, "{found:?}");
}
