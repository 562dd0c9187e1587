//! Every library and program forbids unsafe code, so that only the crate named here has to be reviewed for it.

use std::path::Path;

use mesh_testkit::workspace::{members, root};

/// Roots that must allow an exception, with the reason. Their unsafe blocks carry `#[expect(unsafe_code)]`.
const EXCEPTIONS: &[(&str, &str)] =
    &[("shared/src/lib.rs", "a child process sets its death signal between fork and exec (src/child.rs)")];

/// Returns what is wrong with a root file.
fn problem(path: &Path, content: &str, exceptions: &[(&str, &str)]) -> Option<String> {
    let forbids = content.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
    let excepted = exceptions.iter().any(|(exception, _)| path == Path::new(exception));
    match (forbids, excepted) {
        (false, false) => Some(format!("{}: add #![forbid(unsafe_code)]", path.display())),
        (true, true) => Some(format!("{} forbids unsafe code: remove it from EXCEPTIONS", path.display())),
        _ => None,
    }
}

#[test]
fn every_library_and_program_forbids_unsafe_code() {
    let (members, root) = (members().unwrap(), root());
    let roots: Vec<_> = members.iter().flat_map(|member| member.roots()).collect();
    assert!(roots.len() > 15, "only {roots:?} found");
    let check = |file: &&Path| {
        let content = std::fs::read_to_string(file).unwrap();
        problem(file.strip_prefix(&root).unwrap(), &content, EXCEPTIONS)
    };
    let found: Vec<String> = roots.iter().filter_map(check).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_root_without_the_attribute_and_an_exception_that_is_not_needed_are_reported() {
    let exceptions = [("b.rs", "it must")];
    assert_eq!(problem(Path::new("a.rs"), "//! A.\n#![forbid(unsafe_code)]\n", &exceptions), None);
    assert_eq!(problem(Path::new("b.rs"), "//! B.\n", &exceptions), None);
    assert!(problem(Path::new("a.rs"), "// #![forbid(unsafe_code)]\n", &exceptions).is_some());
    assert!(problem(Path::new("b.rs"), "#![forbid(unsafe_code)]\n", &exceptions).is_some());
}
