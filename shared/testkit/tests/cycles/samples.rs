//! Small crates with and without cycles, as the guard sees them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{graph, modules};

/// Returns the cycles among these files; the first one is the root.
fn cycles(files: &[(&str, &str)]) -> Vec<String> {
    let texts: BTreeMap<&Path, &str> = files.iter().map(|(file, text)| (Path::new(file), *text)).collect();
    let read = |file: &Path| texts.get(file).map(|text| (*text).to_owned());
    let arrows = graph::arrows(&modules::load(Path::new(files[0].0), &read));
    let join = |cycle: &std::collections::BTreeSet<&Path>| {
        cycle.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    graph::cycles(&arrows).iter().map(join).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn two_files_that_use_each_other_are_a_cycle() {
    let root = ("lib.rs", "mod a; mod b; mod c;");
    let a = ("a.rs", "use crate::b::B; pub struct A(B);");
    let c = ("c.rs", "use crate::{a, b::B}; fn f(_: a::A) -> B { todo!() }");
    let back = ("b.rs", "pub struct B; fn f(_: super::a::A) {}");
    assert_eq!(cycles(&[root, a, back, c]), ["a.rs b.rs"]);
    assert_eq!(cycles(&[root, a, ("b.rs", "pub struct B;"), c]), NONE);
}

#[test]
fn a_cycle_of_three_files_is_reported_once() {
    let root = ("lib.rs", "mod a; mod b; mod c;");
    let a = ("a.rs", "pub fn a() { crate::b::b() }");
    let b = ("b.rs", "pub fn b() { println!(\"{}\", crate::c::c()) }");
    let c = ("c.rs", "pub fn c() { use super::a::a; a() }");
    assert_eq!(cycles(&[root, a, b, c]), ["a.rs b.rs c.rs"]);
}

#[test]
fn a_parent_that_only_reexports_may_be_used_by_its_child() {
    let child = ("a/b.rs", "use super::A; pub struct B(A);");
    let root = ("lib.rs", "mod a;");
    assert_eq!(cycles(&[root, ("a.rs", "mod b; pub use b::B; pub struct A;"), child]), NONE);
    assert_eq!(cycles(&[root, ("a.rs", "mod b; pub use b::*; pub struct A;"), child]), NONE);
    let uses = ("a.rs", "mod b; pub use b::B; pub struct A; fn f(_: B) {}");
    assert_eq!(cycles(&[root, uses, child]), ["a/b.rs a.rs"]);
    let imports = ("a.rs", "mod b; use b::B; pub struct A;");
    assert_eq!(cycles(&[root, imports, child]), ["a/b.rs a.rs"]);
}

#[test]
fn a_name_is_followed_to_the_file_that_defines_it() {
    let root = ("lib.rs", "mod a; mod d;");
    let a = ("a/mod.rs", "mod b; mod c; pub use self::b::B; pub use c::*;");
    let b = ("a/b.rs", "pub struct B; fn f() { crate::d::f() }");
    // Through the parent's re-export, and by a glob, under another name.
    let by_name = ("d.rs", "use crate::a::B as Other; pub fn f(_: Other) {}");
    let by_glob = ("d.rs", "use crate::a::{self as x}; pub fn f(_: x::C) {}");
    let c = ("a/c.rs", "pub struct C; fn f() { crate::d::f() }");
    assert_eq!(cycles(&[root, a, b, by_name, ("a/c.rs", "")]), ["a/b.rs d.rs"]);
    assert_eq!(cycles(&[root, a, ("a/b.rs", "pub struct B;"), by_glob, c]), ["a/c.rs d.rs"]);
}

#[test]
fn tests_visibilities_and_names_of_modules_do_not_count() {
    let root = ("lib.rs", "mod a; mod b;");
    let a = ("a.rs", "use crate::b; pub struct A; fn f() { b::f() }");
    let visible = ("b.rs", "pub(in crate::a) fn f() {} use crate::a;");
    let test = ("b.rs", "pub fn f() {} #[cfg(test)] mod tests { use crate::a::A; }");
    let test_only = ("b.rs", "pub fn f() {} struct B; impl B { #[cfg(test)] fn t(_: crate::a::A) {} }");
    for b in [visible, test, test_only] {
        assert_eq!(cycles(&[root, a, b]), NONE, "{}", b.1);
    }
    assert_eq!(cycles(&[root, a, ("b.rs", "pub fn f(_: crate::a::A) {}")]), ["a.rs b.rs"]);
}

#[test]
fn what_a_parent_imports_from_another_crate_is_not_its_own() {
    let root = ("lib.rs", "mod a;");
    let child = ("a/b.rs", "pub fn f(_: super::Path) {}");
    assert_eq!(
        cycles(&[root, ("a.rs", "mod b; use std::path::Path; fn f(p: &Path) { b::f(p) }"), child]),
        NONE
    );
    assert_eq!(
        cycles(&[root, ("a.rs", "mod b; struct Path; fn f(p: Path) { b::f(p) }"), child]),
        ["a/b.rs a.rs"]
    );
    let generated = ("a.rs", "mod b; generate!(); fn f() { b::f() }");
    assert_eq!(cycles(&[root, generated, child]), ["a/b.rs a.rs"]);
}

#[test]
fn imports_in_a_circle_end() {
    let root = ("lib.rs", "mod a; mod b;");
    assert_eq!(cycles(&[root, ("a.rs", "pub use crate::b::X;"), ("b.rs", "pub use crate::a::X;")]), NONE);
}
