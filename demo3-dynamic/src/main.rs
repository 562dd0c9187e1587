#![doc = include_str!("../README.md")]

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A demo that cannot run is exit code 2, as for all of them; and nothing on stdout, where a report would be.
    _ = writeln!(
        std::io::stderr(),
        "demo3-dynamic is not built yet and comes next; its README.md tells what it will teach, and demo4-lb runs today"
    );
    ExitCode::from(2)
}
