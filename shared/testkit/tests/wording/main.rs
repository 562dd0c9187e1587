//! Plain technical English in everything that people read: Markdown, comments, string literals, the text of exercises.
//!
//! `data/wording-rules.tsv` has the wording to avoid and its replacement. A hit points at a place that is probably
//! hard to read. Each file has a budget of hits, which only falls:
//!
//! ```sh
//! UPDATE_WORDING=1 cargo test -p mesh-testkit --test wording
//! ```

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

mod budget;
mod prose;
mod rules;
mod samples;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use budget::Hits;
use mesh_testkit::workspace;
use prose::Prose;

const BLESS: &str = "UPDATE_WORDING=1 cargo test -p mesh-testkit --test wording";

/// Folders whose content is made by programs or students.
const SKIPPED: &[&str] = &["target", "dist", "certs", "keys", "work"];

const BUDGET: &str = "shared/testkit/wording-budget.txt";

/// Files that are not checked: paths only, and wording that is wrong on purpose.
const UNCHECKED: &[&str] = &[BUDGET, "shared/testkit/tests/wording/samples.rs"];

/// One hit: the line, the words, and what to write instead.
struct Hit {
    line: usize,
    words: String,
    replacement: String,
}

/// The hits by file, and the number of words that were read.
#[derive(Default)]
struct Findings {
    hits: BTreeMap<String, Vec<Hit>>,
    words: usize,
}

impl Findings {
    fn counts(&self) -> Hits {
        self.hits.iter().map(|(path, hits)| (path.clone(), hits.len())).collect()
    }
}

/// Reads these files, each with its path and content.
fn examine(files: impl IntoIterator<Item = (String, String)>) -> Findings {
    let (prose, rules) = (Prose::new(), rules::rules());
    let mut findings = Findings::default();
    for (path, content) in files {
        for (line, text) in prose.of(&path, &content) {
            findings.words += text.split_whitespace().count();
            for rule in &rules {
                let hits = rule.hits(&text).into_iter().map(|words| Hit {
                    line,
                    words: words.to_owned(),
                    replacement: rule.replacement.clone(),
                });
                let hits: Vec<Hit> = hits.collect();
                if !hits.is_empty() {
                    findings.hits.entry(path.clone()).or_default().extend(hits);
                }
            }
        }
    }
    findings
}

/// Returns the files that people read.
fn files() -> Vec<(String, String)> {
    let root = workspace::root();
    let mut files = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let hidden = name.starts_with('.') && name != ".ci" && name != ".devcontainer";
                open.extend((!hidden && !SKIPPED.contains(&name.as_str())).then_some(path));
                continue;
            }
            let relative = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if is_prose(&relative) && !UNCHECKED.contains(&relative.as_str()) {
                files.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn is_prose(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("md" | "rs" | "yaml" | "txt" | "bt" | "sh" | "toml"))
        || path == "Dockerfile"
        || path.starts_with(".ci/")
}

/// Returns what differs from the budget, for people.
fn report(findings: &Findings, budget: &Hits) -> String {
    let mut lines = Vec::new();
    for (path, hits, allowed) in budget::differences(&findings.counts(), budget) {
        if hits < allowed {
            lines.push(format!("{path}: {hits} hits, the budget is {allowed}: lower it with {BLESS}"));
            continue;
        }
        lines.push(format!("{path}: {hits} hits, the budget is {allowed}. Reword one of these:"));
        for Hit { line, words, replacement } in findings.hits.get(&path).into_iter().flatten() {
            lines.push(format!("    {path}:{line}: \"{words}\": {replacement}"));
        }
    }
    lines.join("\n")
}

#[test]
fn no_file_has_more_or_fewer_hits_than_its_budget() {
    let findings = examine(files());
    let counts = findings.counts();
    let total: usize = counts.values().sum();
    let per_thousand = 1000.0 * total as f64 / findings.words.max(1) as f64;
    println!("{total} hits in {} words ({per_thousand:.1} per 1,000)", findings.words);
    assert!(findings.words > 50_000, "only {} words found", findings.words);

    let file = workspace::root().join(BUDGET);
    let mut budget = fs::read_to_string(&file).ok().map(|text| budget::parse(&text));
    if std::env::var_os("UPDATE_WORDING").is_some() {
        let lowered = budget::lowered(&counts, budget.as_ref());
        fs::write(&file, budget::print(&lowered)).unwrap();
        budget = Some(lowered);
    }
    let budget = budget.unwrap_or_else(|| panic!("{BUDGET} is missing: make it with {BLESS}"));
    let report = report(&findings, &budget);
    assert!(report.is_empty(), "{report}");
}
