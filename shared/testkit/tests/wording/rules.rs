//! The patterns of `data/wording-rules.tsv`, and where a text matches them.

use regex::Regex;

/// One pattern, and what to write instead.
pub(crate) struct Rule {
    pattern: Regex,
    pub(crate) replacement: String,
    /// Text that begins like a hit, but is not one.
    exception: Option<Regex>,
}

/// Returns the rules of this project.
pub(crate) fn rules() -> Vec<Rule> {
    let lines = include_str!("../../data/wording-rules.tsv").lines().filter(|line| !line.starts_with('#'));
    lines.map(Rule::parse).collect()
}

impl Rule {
    fn parse(line: &str) -> Self {
        let fields: Vec<&str> = line.split('\t').collect();
        let (pattern, replacement, exception) = match fields[..] {
            [pattern, replacement] => (pattern, replacement, None),
            [pattern, replacement, exception] => (pattern, replacement, Some(format!("^(?:{exception})"))),
            _ => panic!("not two or three fields: {line:?}"),
        };
        let compile = |pattern: &str| Regex::new(pattern).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        Self {
            pattern: compile(pattern),
            replacement: replacement.to_owned(),
            exception: exception.as_deref().map(compile),
        }
    }

    /// Returns the hits in one text.
    pub(crate) fn hits<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let is_hit = |start: usize| !self.exception.as_ref().is_some_and(|it| it.is_match(&text[start..]));
        let found = self.pattern.find_iter(text).filter(|hit| is_hit(hit.start()));
        found.map(|hit| hit.as_str().trim()).collect()
    }
}
