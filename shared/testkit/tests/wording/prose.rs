//! The prose of a file: Markdown outside of code, comments, and string literals with more than one word.

use regex::Regex;

/// Finds prose in files.
pub(crate) struct Prose {
    /// Code in Markdown, and the targets of its links.
    markdown: Regex,
    code: Regex,
    comment: Regex,
    string: Regex,
    hash: Regex,
}

impl Prose {
    /// Compiles the patterns.
    pub(crate) fn new() -> Self {
        let compile = |pattern: &str| Regex::new(pattern).unwrap();
        Self {
            markdown: compile(r"`[^`]*`|\]\([^)]*\)"),
            code: compile("`[^`]*`"),
            comment: compile("//[/!]?(.*)"),
            string: compile(r#""((?:[^"\\]|\\.)*)""#),
            hash: compile(r"(?:^|\s)#\s(.*)"),
        }
    }

    /// Returns the texts of a file, each with the number of its line.
    pub(crate) fn of(&self, file: &str, content: &str) -> Vec<(usize, String)> {
        let mut fenced = false;
        let mut texts = Vec::new();
        for (line, number) in content.lines().zip(1..) {
            if file.ends_with(".md") {
                if line.trim_start().starts_with("```") {
                    fenced = !fenced;
                } else if !fenced {
                    texts.push((number, self.markdown.replace_all(line, "").into_owned()));
                }
            } else if file.ends_with(".rs") {
                texts.extend(self.rust(line).into_iter().map(|text| (number, text)));
            } else if let Some(comment) = self.hash.captures(line) {
                texts.push((number, comment[1].to_owned()));
            } else if file.ends_with(".txt") {
                texts.push((number, line.to_owned()));
            }
        }
        texts
    }

    fn rust(&self, line: &str) -> Vec<String> {
        let comment = self.comment.captures(line);
        let code = line.split("//").next().unwrap_or(line);
        let comment = comment.map(|comment| comment[1].to_owned());
        let strings = self.string.captures_iter(code).map(|string| string[1].to_owned());
        let texts = comment.into_iter().chain(strings).filter(|text| text.contains(' '));
        texts.map(|text| self.code.replace_all(&text, "").into_owned()).collect()
    }
}

#[test]
fn prose_is_what_is_written_for_readers() {
    let of = |file, content| -> Vec<(usize, String)> { Prose::new().of(file, content) };
    let text = |line, text: &str| (line, text.to_owned());
    assert_eq!(of("a.md", "One `two` [three](four).\n```sh\nfive\n```"), [text(1, "One  [three.")]);
    assert_eq!(
        of("a.rs", "/// One `two` three.\nf(\"four\", \"five six\"); // seven eight"),
        [text(1, " One  three."), text(2, " seven eight"), text(2, "five six"),]
    );
    assert_eq!(of("a.yaml", "one: two # three four"), [text(1, "three four")]);
    assert_eq!(of("a.txt", "one two"), [text(1, "one two")]);
}
