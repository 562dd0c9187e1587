//! What an error may tell of a file's content: where it is wrong and what belongs there, but no value.
//!
//! Files hold private keys and passwords, and a mistake next to one makes a parser quote it: into a log that many
//! may read. So a value of the wrong type is never quoted, and near a secret no word of the file's own is,
//! but for names that look like a field's.

use std::fmt::Write;

use serde_path_to_error::{Path, Segment};

/// The longest quotation.
const MAX_NAME_LENGTH: usize = 40;

/// The longest message; parsers know some that list everything.
const MAX_LENGTH: usize = 200;

/// Words in the names of fields that hold secrets, without underscores and capitals.
const SECRETS: [&str; 9] = [
    "privatekey",
    "password",
    "passphrase",
    "secret",
    "token",
    "inline",
    "credential",
    "authorization",
    "apikey",
];

/// Whether what stands at `path` in a message of this type may be secret.
pub(super) fn is_secret(message: &str, path: &str) -> bool {
    let names = format!("{message}.{path}").to_lowercase().replace('_', "");
    SECRETS.iter().any(|word| names.contains(word))
}

/// The path as people write it, names cut to what a name may be.
pub(super) fn field_path(path: &Path) -> String {
    let mut out = String::new();
    for segment in path {
        // Writing to a string does not fail.
        _ = match segment {
            Segment::Seq { index } => write!(out, "[{index}]"),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                let dot = if out.is_empty() { "" } else { "." };
                write!(out, "{dot}{}", abbreviate(key))
            }
            Segment::Unknown => Ok(()),
        };
    }
    out
}

/// The parser's complaint without the value that it complains of.
pub(super) fn without_values(why: &str) -> String {
    if let Some(expected_types) = expected_types(why) {
        return expected_types;
    }
    let why = match (why.find(['\'', '`', '"']), why.rfind(['\'', '`', '"'])) {
        (Some(first), Some(last)) if first < last => {
            let (quote, rest) = why.split_at(first + 1);
            let (quoted, end) = rest.split_at(last - first - 1);
            format!("{quote}{}{end}", abbreviate(quoted))
        }
        _ => why.to_owned(),
    };
    if why.contains("-----BEGIN") {
        return "it is not what belongs there".to_owned();
    }
    one_line(&why, MAX_LENGTH)
}

/// The same for a value that may be a secret: what belongs there, and nothing else of the file.
pub(super) fn without_secrets(why: &str) -> String {
    if let Some(expected_types) = expected_types(why) {
        return expected_types;
    }
    let unknown = why.strip_prefix("unrecognized field name '").and_then(|name| name.strip_suffix('\''));
    match unknown {
        // Keys and tokens have digits and capitals.
        Some(name)
            if name.len() <= MAX_NAME_LENGTH && name.chars().all(|c| c.is_ascii_lowercase() || c == '_') =>
        {
            format!("unrecognized field name '{name}'")
        }
        Some(_) => "unrecognized field name".to_owned(),
        None => "it is not what belongs there".to_owned(),
    }
}

/// `invalid type: string "…", expected a map` without the string.
fn expected_types(why: &str) -> Option<String> {
    let found = why.strip_prefix("invalid type: ").or_else(|| why.strip_prefix("invalid value: "))?;
    let (found, expected) = found.rsplit_once(", expected ")?;
    let kind = found.split(['"', '`', '\'']).next().unwrap_or_default().trim();
    Some(one_line(&format!("expected {expected}, found {kind}"), MAX_LENGTH))
}

fn abbreviate(text: &str) -> String {
    if text.contains("-----BEGIN") { "…".to_owned() } else { one_line(text, MAX_NAME_LENGTH) }
}

/// At most so many characters of it, none of which ends a line or speaks to a terminal.
fn one_line(text: &str, most: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = plain.clone().take(most).collect();
    if plain.count() > most {
        short.push('…');
    }
    short
}
