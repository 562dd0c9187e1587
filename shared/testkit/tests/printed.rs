//! How a report is printed: its lines, its table, and its colours on a terminal.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

use std::fs::File;
use std::io::Read;
use std::process::Command;

use mesh_testkit::demo::{Demo, text};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const TINY: Demo = Demo::new(env!("CARGO_BIN_EXE_tiny-demo"));

/// Returns a command whose colours do not depend on the environment of the tests.
fn tiny_demo(args: &[&str]) -> Command {
    let mut command = TINY.command(args);
    command.env_remove("NO_COLOR");
    command
}

#[test]
fn the_last_line_counts_verdicts_and_names_broken_claims() {
    for (ending, beginning, end) in [
        ("holds", "1 of 1 claims held in ", " s"),
        ("mixed", "1 of 4 claims held in ", " s; 1 not checked; broken: it-breaks, it-breaks-too"),
        ("not-checked", "0 of 1 claims held in ", " s; 1 not checked"),
        ("empty", "0 of 0 claims held in ", " s"),
        ("fails", "0 of 0 claims held in ", " s; the story ended early: cannot save: the disk is read-only"),
    ] {
        let stdout = text(&TINY.run(&[ending]).stdout);
        let last = stdout.lines().last().unwrap();
        let seconds = last.strip_prefix(beginning).and_then(|rest| rest.strip_suffix(end));
        let seconds: f64 = seconds.unwrap_or_else(|| panic!("{ending}: {last}")).parse().unwrap();
        assert!(seconds >= 0.0 && !last.contains("-0.0"), "{last}");
    }
}

#[test]
fn people_get_each_claim_as_it_is_measured_and_again_in_a_table() {
    let stdout = text(&TINY.run(&["mixed"]).stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    let beginning = [
        "tiny-demo: a run for tests",
        "   with tiny 1.0",
        "",
        "1. The only step",
        "   held: Two is two (2)",
        "   BROKEN: Two is three (2; expected 3)",
        "   BROKEN: Two is four (2; expected 4)",
        "   not checked: Two is one of many (there are not many)",
        "",
    ];
    assert_eq!(lines[..beginning.len()], beginning);
    let row = |claim: &str| lines.iter().find(|line| line.starts_with(&format!(" {claim} "))).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(words(row("claim")), "claim expected seen verdict");
    assert_eq!(words(row("Two is two")), "Two is two 2 2 held");
    assert_eq!(words(row("Two is three")), "Two is three 3 2 BROKEN");
    assert_eq!(
        words(row("Two is one of many")),
        "Two is one of many 1 of many there are not many not checked"
    );
    // No table without claims.
    assert!(!text(&TINY.run(&["empty"]).stdout).contains("verdict"));
}

#[test]
fn without_a_terminal_a_table_fits_110_columns_and_has_no_colours() {
    let stdout = text(&TINY.run(&["mixed"]).stdout);
    assert!(!stdout.contains('\u{1b}'), "{stdout}");
    let widest = stdout.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 110, "{widest}:\n{stdout}");
}

/// Runs the command on a terminal of this width, and returns what it shows.
fn on_a_terminal(mut command: Command, columns: u16) -> String {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let path = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(path).unwrap();
    tcsetwinsize(&terminal, size).unwrap();
    let mut child = command.stdout(terminal.try_clone().unwrap()).stderr(terminal).spawn().unwrap();
    // It holds the terminal open too, and reading ends only when no process does.
    drop(command);
    let (mut controller, mut shown) = (File::from(controller), Vec::new());
    // Linux reports the end as EIO.
    _ = controller.read_to_end(&mut shown);
    child.wait().unwrap();
    text(&shown)
}

#[test]
fn on_a_terminal_verdicts_have_colours_unless_no_color_is_set() {
    let shown = on_a_terminal(tiny_demo(&["mixed"]), 100);
    for verdict in ["\u{1b}[32mheld", "\u{1b}[31mBROKEN", "\u{1b}[33mnot checked"] {
        assert!(shown.contains(verdict), "no {verdict:?} in\n{shown}");
    }
    let with_no_color = |value: &str| {
        let mut command = tiny_demo(&["mixed"]);
        command.env("NO_COLOR", value);
        on_a_terminal(command, 100)
    };
    let plain = with_no_color("1");
    assert!(plain.contains("BROKEN") && !plain.contains('\u{1b}'), "{plain}");
    // An empty value counts as not set (https://no-color.org).
    assert!(with_no_color("").contains("\u{1b}[31mBROKEN"));
}

#[test]
fn json_has_no_colours_on_a_terminal_either() {
    let shown = on_a_terminal(tiny_demo(&["mixed", "--json"]), 80);
    assert!(shown.contains("\"broken\"") && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn a_table_is_as_wide_as_the_terminal_at_most() {
    for columns in [50, 70] {
        let mut command = tiny_demo(&["mixed"]);
        command.env("NO_COLOR", "1");
        let shown = on_a_terminal(command, columns);
        let table: Vec<&str> = shown.lines().skip_while(|line| !line.starts_with('─')).collect();
        let table = &table[..table.len() - 1];
        assert!(table.len() > 8, "{shown}");
        let widest = table.iter().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(columns), "{widest} of {columns}:\n{shown}");
    }
}
