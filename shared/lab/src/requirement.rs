//! What a task asks for, and what was seen instead: the sentences that a student reads.

use std::fmt::Display;

use serde::Serialize;

/// One thing that a task asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{what}: {}", self.sentence())]
pub struct Requirement {
    /// The requirement, as a short sentence.
    pub what: String,
    /// What the task asks for; follows the words "the task asks for".
    pub expected: String,
    /// What was seen; begins the sentence.
    pub seen: String,
    /// Whether that is enough.
    pub met: bool,
    /// Where to look, if it is not.
    pub advice: String,
}

impl Requirement {
    /// A requirement that is not met. As an error it ends the check: nothing more can be seen.
    pub fn unmet(
        what: impl Display,
        expected: impl Display,
        seen: impl Display,
        advice: impl Display,
    ) -> Self {
        Self {
            what: what.to_string(),
            expected: expected.to_string(),
            seen: seen.to_string(),
            met: false,
            advice: advice.to_string(),
        }
    }

    /// What was seen and what was asked for, in one sentence; with the advice, if it was not met.
    pub fn sentence(&self) -> String {
        let Self { expected, seen, advice, met, .. } = self;
        // What a compiler says has many lines; the task's wish goes below it.
        let joint = if seen.contains('\n') { "\nThe task asks for" } else { "; the task asks for" };
        let sentence = format!("{}{joint} {expected}.", seen.trim_end());
        if *met || advice.is_empty() { sentence } else { format!("{sentence} {advice}") }
    }
}

/// Whether a sentence says this, wherever the line breaks are; `…` stands for anything.
pub fn matches_pattern(sentence: &str, wanted: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentence = plain(sentence);
    let mut rest = sentence.as_str();
    for piece in wanted.split('…').map(plain) {
        match rest.find(&piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_says_what_was_seen_what_was_asked_for_and_where_to_look() {
        let mut found = Requirement::unmet("the split", "70 %", "90 % went to a", "Look at the weights.");
        assert_eq!(found.sentence(), "90 % went to a; the task asks for 70 %. Look at the weights.");
        found.met = true;
        assert_eq!(found.sentence(), "90 % went to a; the task asks for 70 %.");
    }

    #[test]
    fn an_ellipsis_stands_for_what_differs_from_run_to_run() {
        assert!(matches_pattern("90 % of 300 calls\nwent to a", "90 % of … calls went"));
        assert!(!matches_pattern("90 % of 300 calls went to a", "went … 90 %"));
    }
}
