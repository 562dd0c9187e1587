//! The section `# Reading order` in each demo's `src/lib.rs`: the files that explain the demo, short enough to read in one go.
//!
//! Each item of its list begins with a file below `src/`: `` 1. [`topology.rs`](topology): ... ``. Prose below the list may
//! point to more.

use mesh_testkit::workspace::members;

/// The most lines that the files of one reading path may have together.
const MOST_LINES: usize = 1_200;

/// Returns the first code span of each list item in the section, or the item's text if it has none.
fn listed(lib: &str) -> Vec<&str> {
    let docs = lib.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim);
    let section =
        docs.skip_while(|line| *line != "# Reading order").skip(1).take_while(|line| !line.starts_with('#'));
    let is_item = |line: &&str| {
        let number = line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        number || line.starts_with("- ") || line.starts_with("* ")
    };
    section.filter(is_item).map(|line| line.split('`').nth(1).unwrap_or(line)).collect()
}

/// Returns what is wrong with a reading path: `lines` returns the length of a file below `src/`, if it exists.
fn problems(lib: &str, lines: impl Fn(&str) -> Option<usize>) -> Vec<String> {
    let files = listed(lib);
    let mut problems = Vec::new();
    let mut total = 0;
    for (at, file) in files.iter().enumerate() {
        match lines(file) {
            Some(lines) if file.ends_with(".rs") => total += lines,
            _ => problems.push(format!("{file:?} is not a source file below src/")),
        }
        if files[..at].contains(file) {
            problems.push(format!("{file:?} is listed twice"));
        }
    }
    if !files.contains(&"scenario.rs") {
        problems.push("the list does not lead to \"scenario.rs\"".to_owned());
    }
    if total > MOST_LINES {
        problems.push(format!("{total} lines in {files:?}, at most {MOST_LINES} are allowed"));
    }
    problems
}

#[test]
fn the_reading_path_of_each_demo_exists_and_is_short() {
    let members = members().unwrap();
    let demos: Vec<_> = members.iter().filter(|member| member.name.starts_with("demo")).collect();
    assert_eq!(demos.len(), 5, "the workspace has five demos");
    let mut found = Vec::new();
    for demo in demos {
        let src = demo.folder().join("src");
        let lib = std::fs::read_to_string(src.join("lib.rs")).unwrap();
        let lines = |file: &str| Some(std::fs::read_to_string(src.join(file)).ok()?.lines().count());
        println!("{}: {:?}", demo.name, listed(&lib));
        found.extend(problems(&lib, lines).into_iter().map(|problem| format!("{}: {problem}", demo.name)));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

const SAMPLE: &str = "\
//! 1. `before.rs`: not in the section
//! # Reading order
//!
//! The idea, with `code`.
//!
//! 1. [`topology.rs`](topology): names
//!    and `ports`
//! 2. `scenario.rs`: steps
//!
//! # Features
//!
//! - `after.rs`: not in the section
pub mod topology;
";

#[test]
fn only_items_of_the_section_are_listed() {
    assert_eq!(listed(SAMPLE), ["topology.rs", "scenario.rs"]);
}

#[test]
fn a_missing_file_a_long_path_and_a_missing_list_are_reported() {
    assert_eq!(problems(SAMPLE, |_| Some(600)), [""; 0]);
    assert_eq!(problems(SAMPLE, |_| Some(601)).len(), 1);
    assert_eq!(problems(SAMPLE, |file| (file == "scenario.rs").then_some(1)).len(), 1);
    assert_eq!(problems("//! # Reading order", |_| Some(1)).len(), 1);
    let twice = SAMPLE.replace("topology.rs", "scenario.rs");
    assert_eq!(problems(&twice, |_| Some(1)).len(), 1);
    let unnamed = SAMPLE.replace("`scenario.rs`", "the scenario");
    let found = problems(&unnamed, |file| file.ends_with(".rs").then_some(1));
    assert_eq!(found.len(), 2, "{found:?}");
}
