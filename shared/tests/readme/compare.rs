//! Whether what was printed is what a README shows: words exactly, numbers loosely.
//!
//! - A number is any number, with the unit that hangs on to it; eight and more digits of hex are a number too.
//! - A run of spaces, or of any other character that is no letter, is as long as it likes: columns, bars, rulers.
//!   Blank lines count for nothing.
//! - `…` on a line of its own stands for any lines, even none; within a line, for any text.

use std::sync::LazyLock;

use regex::Regex;

const ELLIPSIS: &str = "…";

/// Compares, and tells where the two part.
///
/// # Errors
/// The first line that was shown and not printed where it should have been, with what stood there instead.
pub(crate) fn compare(shown: &str, printed: &str) -> Result<(), String> {
    let (shown, printed) = (lines(shown), lines(printed));
    // How far a match came, for the finding.
    let mut furthest = (0, 0);
    if matches(&shown, &printed, (0, 0), &mut furthest) {
        return Ok(());
    }
    let (at, beside) = furthest;
    let line = |lines: &[(String, String)], at: usize| {
        lines.get(at).map_or("nothing more".to_owned(), |(text, _)| format!("`{}`", text.trim()))
    };
    Err(format!("shown is   {}\nprinted is {}", line(&shown, at), line(&printed, beside)))
}

/// The lines that are not blank: as they are, and loosened.
fn lines(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| (line.to_owned(), normalized(line))).collect()
}

/// A line without what may differ.
fn normalized(line: &str) -> String {
    static HEX: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[0-9A-Fa-f]{8,}\b"));
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"\d+(?:[.,:]\d+)*(?:(?:ns|µs|ms|s|k|M|B|KB|MB)\b)?"));
    let mut short = String::new();
    for letter in line.trim().chars().map(|letter| if letter.is_whitespace() { ' ' } else { letter }) {
        if letter.is_alphanumeric() || !short.ends_with(letter) {
            short.push(letter);
        }
    }
    NUMBER.replace_all(&HEX.replace_all(&short, "0"), "0").into_owned()
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether the rest of what is shown matches the rest of what was printed.
fn matches(
    shown: &[(String, String)],
    printed: &[(String, String)],
    at: (usize, usize),
    furthest: &mut (usize, usize),
) -> bool {
    let (mut left, mut right) = at;
    // The last line of dots, and where what it stands for ends at present: enough to go back to, as with `*`.
    let mut dots: Option<(usize, usize)> = None;
    loop {
        *furthest = (*furthest).max((left, right));
        match (shown.get(left), printed.get(right)) {
            (None, None) => return true,
            (Some((_, line)), _) if line == ELLIPSIS => {
                dots = Some((left, right));
                left += 1;
            }
            (Some((_, line)), Some((_, beside))) if words_match(line, beside) => {
                left += 1;
                right += 1;
            }
            (_, rest) => match dots {
                Some((at, until)) if rest.is_some() => {
                    dots = Some((at, until + 1));
                    (left, right) = (at + 1, until + 1);
                }
                _ => return false,
            },
        }
    }
}

/// Whether a line fits, with its dots standing for any text.
fn words_match(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split(ELLIPSIS);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn numbers_and_widths_can_differ_and_words_cannot() {
    for (shown, printed) in [
        ("held: p50 929.0µs, 53 of 53 (0.1 s)", "held: p50 1ms, 7 of 9 (12 s)"),
        ("serial 0264A7DAF2D43138D69CBDCF0A1FF5F4", "serial E8F6C1EE05F2376CE138C5BB952877B9"),
        ("   a    12 ####\n\n────\n", "a 3 #\n──────────\n"),
        ("on 127.0.0.1:13002", "on 127.0.0.1:9"),
        ("a\n…\nb\n…\nc\n…", "a\nx\nb\ny\nb\nb\nc\n"),
        ("…\nlast 1", "last 0\nlast 1"),
        ("took … in all", "took a while in all"),
        ("…", ""),
    ] {
        assert_eq!(compare(shown, printed), Ok(()));
    }
    for (shown, printed) in [
        ("held: all", "held: some"),
        ("a 1", "a"),
        ("a", "a\nb"),
        ("a\nb", "a"),
        ("a\n…\nc", "a\nb\nd"),
        ("…\na", "a\nb"),
        ("took … in all", "took a while"),
        ("1 fails", "1 fail"),
    ] {
        compare(shown, printed).unwrap_err();
    }
}

#[test]
fn a_finding_names_the_first_line_that_differs() {
    let finding = compare("a 1\nheld: b\nc", "a 2\nBROKEN: b\nc").unwrap_err();
    assert_eq!(finding, "shown is   `held: b`\nprinted is `BROKEN: b`");
    assert!(compare("a\nb", "a").unwrap_err().ends_with("nothing more"));
}
