//! What a README marks: commands to run, and what they print.
//!
//! Knows Markdown's fences and our words in them; does not know how a command is run.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

/// What a block's commands cannot do without; also which session they run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Rust, Python and what every Debian has.
    Nothing,
    /// More than some seconds (`slow`).
    Time,
    /// curl or openssl (`tools`).
    Tools,
    /// To be root (`root`).
    Root,
    /// A Docker engine (`docker`), whatever else.
    Docker,
}

/// A block of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The README's line in which it begins.
    pub(crate) line: usize,
    /// What it needs.
    pub(crate) need: Need,
    /// One a line.
    pub(crate) commands: Vec<Command>,
    /// What it prints, if the README shows it.
    pub(crate) shown: Option<String>,
}

/// One command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// As it stands there, with its comment.
    pub(crate) text: String,
    /// The exit code that its comment announces (`# exit code 1`); 0 unless it does.
    pub(crate) code: u8,
    /// Whether it goes on while those after it run (`# in a terminal of its own`).
    pub(crate) beside: bool,
}

/// The marked blocks of a README, in order.
///
/// # Errors
/// A mark that is not understood, with its line.
pub(crate) fn read(text: &str) -> Result<Vec<Block>, String> {
    let (mut blocks, mut open): (Vec<Block>, Option<(String, usize)>) = (Vec::new(), None);
    let mut code = String::new();
    for (event, at) in Parser::new(text).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                open = Some((info.into_string(), text[..at.start].matches('\n').count() + 1));
                code.clear();
            }
            Event::Text(part) if open.is_some() => code.push_str(&part),
            Event::End(TagEnd::CodeBlock) => {
                if let Some((info, line)) = open.take() {
                    take(&mut blocks, &info, line, &code)
                        .map_err(|error| format!("{line}: `{info}`: {error}"))?;
                }
            }
            _ => {}
        }
    }
    Ok(blocks)
}

fn take(blocks: &mut Vec<Block>, info: &str, line: usize, code: &str) -> Result<(), &'static str> {
    let words: Vec<&str> = info.split_whitespace().collect();
    match words[..] {
        ["sh", "run", ref needs @ ..] => {
            let need = need(needs)?;
            let commands = commands(code);
            if commands.is_empty() {
                return Err("there is no command in it");
            }
            blocks.push(Block { line, need, commands, shown: None });
        }
        ["text", "printed"] => {
            let block = blocks.last_mut().ok_or("no runnable block stands before it")?;
            if block.shown.replace(code.to_owned()).is_some() {
                return Err("what the block before prints is shown already");
            }
        }
        ["sh", _, ..] | ["text", _, ..] => return Err("the marks are `sh run …` and `text printed`"),
        _ => {}
    }
    Ok(())
}

fn need(words: &[&str]) -> Result<Need, &'static str> {
    if words.iter().any(|word| !["docker", "root", "tools", "slow"].contains(word)) {
        return Err("`run` is followed by `slow`, `tools`, `root`, `docker` or nothing");
    }
    Ok(match words {
        [] => Need::Nothing,
        words if words.contains(&"docker") => Need::Docker,
        words if words.contains(&"root") => Need::Root,
        words if words.contains(&"tools") => Need::Tools,
        _ => Need::Time,
    })
}

fn commands(code: &str) -> Vec<Command> {
    let joined = code.replace("\\\n", "");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let comment = line.rsplit_once(" # ").map_or("", |(_, comment)| comment);
            let code = comment.strip_prefix("exit code ").and_then(|code| code.trim().parse().ok());
            Command {
                text: line.to_owned(),
                code: code.unwrap_or(0),
                beside: comment.starts_with("in a terminal of its own"),
            }
        })
        .collect()
}

#[test]
fn block_annotations_are_parsed_with_line_numbers_and_output_belongs_to_the_previous_block() {
    let text = "# A\n```sh\nrm -rf all\n```\n```sh run root docker\ntrue \\\n  && false  # exit code 1\n\n\
                serve   # in a terminal of its own\n```\nprose\n```text printed\nnothing\n```\n```sh run slow\nx\n```\n";
    let blocks = read(text).unwrap();
    assert_eq!(blocks.len(), 2);
    assert_eq!((blocks[0].line, blocks[0].need), (5, Need::Docker));
    let first_message = blocks[0].commands.iter().map(|command| (command.code, command.beside));
    assert_eq!(first_message.collect::<Vec<_>>(), [(1, false), (0, true)]);
    assert_eq!(blocks[0].shown.as_deref(), Some("nothing\n"));
    assert_eq!((blocks[1].need, &blocks[1].shown), (Need::Time, &None));
}

#[test]
fn an_unknown_annotation_is_an_error_with_its_line() {
    for (text, words) in [
        ("\n```sh run quick\ntrue\n```", "2: `sh run quick`"),
        ("```sh rnu\ntrue\n```", "1: `sh rnu`"),
        ("```text printed\ntrue\n```", "no runnable block"),
        ("```sh run\n# only this\n```", "no command"),
        ("```sh run\ntrue\n```\n```text printed\n```\n```text printed\n```", "already"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
