//! Links of a README to files of the workspace: they are there, and say what the link says.
//!
//! A link whose text is code names its file, or quotes a line that stands in it. A line's number would be wrong with
//! the next change above it; what stands in it is not.

use std::fs;
use std::path::Path;

use pulldown_cmark::{Event, Parser, Tag, TagEnd};

/// Everything that is wrong with the links of this file.
pub(crate) fn check(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let (mut findings, mut link, mut code) = (Vec::new(), None, None);
    for event in Parser::new(&text) {
        match event {
            Event::Start(Tag::Link { dest_url, .. }) => (link, code) = (Some(dest_url), None),
            Event::Code(quoted) if link.is_some() => code = Some(quoted),
            Event::End(TagEnd::Link) => {
                if let Some(target) = link.take().filter(|target| !target.contains("://"))
                    && let Err(finding) = follow(file, &target, code.as_deref())
                {
                    findings.push(format!("{}: {finding}", file.display()));
                }
            }
            _ => {}
        }
    }
    findings
}

fn follow(file: &Path, target: &str, code: Option<&str>) -> Result<(), String> {
    let (path, heading) =
        target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
    let place = if path.is_empty() { file.to_owned() } else { file.with_file_name(path) };
    let there = place.metadata().map_err(|error| format!("{target}: {error}"))?;
    if there.is_dir() {
        return Ok(());
    }
    let text = fs::read_to_string(&place).unwrap();
    if let Some(heading) = heading
        && !text.lines().any(|line| line.starts_with('#') && anchor(line) == heading)
    {
        return Err(format!("{target}: there is no such heading"));
    }
    match code {
        Some(code) if !path.contains(code) && !text.contains(code) => {
            Err(format!("{path} does not say `{code}`"))
        }
        _ => Ok(()),
    }
}

/// A heading as the end of a link to it.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}
