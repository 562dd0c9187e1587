//! A demo that is not built yet says so, and is not taken for one that ran.

use std::process::Command;

#[test]
fn it_says_in_one_line_that_it_comes_next_and_exits_with_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo2-bpf")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("not built yet") && said.contains("README.md"), "{said}");
}
